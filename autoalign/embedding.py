"""Texts as vectors: the mean of a local model's last hidden states, which any transformers model has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from autoalign import model_folder
from autoalign.errors import MissingDependency, ModelError

_LONGEST = 512  # tokens


class Embedder:
    """A model that is asked for vectors.

    Args:
        name: model folder, or ORG/NAME on the hub.

    Raises:
        ModelError: there is none, or transformers can't load it.
        MissingDependency: torch or transformers is not installed.
    """

    def __init__(self, name: str, batch_size: int = 32) -> None:
        try:
            import torch
            import transformers
        except ImportError as error:
            raise MissingDependency("an embedder needs: pip install 'autoalign[sample]'") from error
        folder = model_folder.find(name, fetch=True)
        quiet: Any = transformers.utils.logging
        quiet.disable_progress_bar()
        auto: Any = transformers.AutoModel
        try:
            self._model = auto.from_pretrained(folder, dtype=torch.float32).eval()
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(f"{name}: transformers can't load it as an embedder: {error}") from error
        self._tokenizer = model_folder.load_tokenizer(folder)
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._longest = min(_LONGEST, model_folder.context_length(folder) or _LONGEST)
        self._batch_size = batch_size

    def vectors(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector a text, cut off at 512 tokens; a text without a token has none, and is left out."""
        # Of like length together, so that little is padding.
        ordered = sorted(texts, key=len)
        batches = (ordered[i : i + self._batch_size] for i in range(0, len(ordered), self._batch_size))
        return [vector for batch in batches for vector in self._batch(batch)]

    def _batch(self, texts: Sequence[str]) -> Iterator[list[float]]:
        import torch

        tokens = self._tokenizer(
            list(texts),
            return_tensors="pt",
            padding=True,
            padding_side="right",
            truncation=True,
            max_length=self._longest,
        )
        if not tokens["input_ids"].shape[1]:
            return
        mask = tokens["attention_mask"]
        with torch.inference_mode():
            # (batch, tokens, size)
            hidden = self._model(input_ids=tokens["input_ids"], attention_mask=mask).last_hidden_state
        sums = (hidden * mask.unsqueeze(-1)).sum(1)
        for vector, count in zip(sums, mask.sum(1), strict=True):
            if count:
                yield (vector / count).tolist()
