"""OpenCompass's Hugging Face chat model with a seed: it draws the same answers each time."""

from __future__ import annotations

import hashlib
from typing import Any

from opencompass.models import HuggingFacewithChatTemplate
from opencompass.registry import MODELS
from transformers import set_seed


@MODELS.register_module()
class SeededChat(HuggingFacewithChatTemplate):  # type: ignore[misc]
    """Each batch is drawn with a seed made from `seed` and what it asks.

    So the answers are the same where OpenCompass was stopped and goes on in the middle of a set.
    """

    def __init__(self, *args: Any, seed: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self._seed = seed

    def generate(self, inputs: list[Any], *args: Any, **options: Any) -> list[str]:
        """As OpenCompass's."""
        digest = hashlib.blake2b(repr((self._seed, inputs)).encode("utf-8", "replace"), digest_size=4)
        set_seed(int.from_bytes(digest.digest(), "big"))
        answers: list[str] = super().generate(inputs, *args, **options)
        return answers
