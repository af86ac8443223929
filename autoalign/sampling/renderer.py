"""Prompts as the model's chat template renders them, tokenised."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autoalign import chat, model_folder
from autoalign.errors import ModelError
from autoalign.records import Message
from autoalign.sampling.prompts import Tools


class ChatRenderer:
    """Renders and tokenises with a model's tokenizer and a chat template."""

    def __init__(
        self,
        folder: Path,
        template: str | None,
        max_model_len: int | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        own = model_folder.context_length(folder)
        if max_model_len is not None and own is not None and max_model_len > own:
            raise ModelError(
                f"{folder}: max_model_len is {max_model_len}, but the model's context is {own} tokens"
            )
        self.context = max_model_len or own
        self._tokenizer = model_folder.load_tokenizer(folder, trust_remote_code)
        self._template = chat.get_template(template, self._tokenizer)
        ids = chat.stop_token_ids(self._template, self._tokenizer)
        end = self._tokenizer.eos_token_id
        self.stop_token_ids = tuple(dict.fromkeys([*ids, *([] if end is None else [end])]))
        self.stop_strings = tuple(self._unusual_ends())

    def encode(self, messages: Sequence[Message], tools: Tools = ()) -> list[int]:
        """Token ids of the prompt, the assistant's header included."""
        return chat.encode_prompt(messages, self._tokenizer, self._template, tools=tools or None)

    def opening(self, messages: Sequence[Message]) -> chat.Opening:
        """The prompt after which the model writes the user's next turn."""
        return chat.user_opening(messages, self._tokenizer, self._template)

    def _unusual_ends(self) -> list[str]:
        """End markers that this tokenizer has no single token for; they stop an answer as text."""
        texts = chat.stop_strings(self._template, self._tokenizer)
        return [
            text for text in texts if len(self._tokenizer(text, add_special_tokens=False)["input_ids"]) != 1
        ]
