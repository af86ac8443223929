"""A tokenizer and a chat template for the commands that look at tokens."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from autoalign.errors import ConfigError
from autoalign.records import Conversation, LabelledAnswer, Message, PreferencePair

if TYPE_CHECKING:
    from autoalign.chat import Encoded, Template


def load_tokenizer(name: str) -> Any:
    """The tokenizer of a folder, with weights or without, or of a hub model.

    Raises:
        ModelError: no such folder, or no tokenizer in it.
    """
    from autoalign import model_folder

    # These commands read rows in one process, so the tokenizer's threads have the CPUs to themselves.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    return model_folder.load_tokenizer(model_folder.find_tokenizer(name))


class Encoder(NamedTuple):
    """Encodes records as training does."""

    tokenizer: Any
    template: Template
    max_length: int | None = None

    def encode(self, record: Conversation) -> Encoded:
        """Ids and labels of a conversation.

        Raises:
            TemplateError: the template refuses it.
        """
        from autoalign import chat

        return chat.encode(
            record.messages, self.tokenizer, self.template, self.max_length, tools=record.tools or None
        )

    def sides(self, record: Conversation | PreferencePair | LabelledAnswer) -> dict[str, Encoded]:
        """What training sees of a record: one conversation, `good` or `bad`, or `chosen` and `rejected`."""
        if isinstance(record, Conversation):
            return {"": self.encode(record)}
        prompt = untrained(record.prompt)
        if isinstance(record, LabelledAnswer):
            whole = Conversation(record.id, prompt + record.completion, tools=record.tools)
            return {"good" if record.label else "bad": self.encode(whole)}
        return {
            side: self.encode(Conversation(record.id, prompt + answer, tools=record.tools))
            for side, answer in (("chosen", record.chosen), ("rejected", record.rejected))
        }


def untrained(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The prompt of a pair or a labelled answer: its earlier answers are given, not learned from."""
    import dataclasses

    return tuple(dataclasses.replace(m, train=m.role != "assistant") for m in messages)


def encoder(tokenizer: str | None, template: str | None, max_length: int | None = None) -> Encoder | None:
    """The encoder that the flags ask for; None without `--tokenizer`.

    Raises:
        ConfigError: `--template` without `--tokenizer`.
    """
    if tokenizer is None:
        if template is not None or max_length is not None:
            raise ConfigError("--template and --model_max_length need --tokenizer, the model's folder")
        return None
    from autoalign import chat

    loaded = load_tokenizer(tokenizer)
    return Encoder(loaded, chat.get_template(template, loaded), max_length)
