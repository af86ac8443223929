"""A tokenizer and a chat template for the commands that look at tokens."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from autoalign.errors import ConfigError, ModelError
from autoalign.records import Conversation, Message, PreferencePair

if TYPE_CHECKING:
    from autoalign.chat import Encoded, Template

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json")


def load_tokenizer(name: str) -> Any:
    """The tokenizer of a model folder, or of a hub model.

    Raises:
        ModelError: no such folder, or no tokenizer in it.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not any((folder / file).is_file() for file in TOKENIZER_FILES):
            raise ModelError(f"{name}: no tokenizer in this folder; {TOKENIZER_FILES[0]} is expected")
    elif name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ModelError(f"{name}: no such model folder")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    from autoalign.sampling.model import load_tokenizer as load

    return load(folder)


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

    def sides(self, record: Conversation | PreferencePair) -> dict[str, Encoded]:
        """What training sees of a record: one conversation, or `chosen` and `rejected`."""
        if isinstance(record, Conversation):
            return {"": self.encode(record)}
        prompt = untrained(record.prompt)
        return {
            "chosen": self.encode(Conversation(record.id, prompt + record.chosen)),
            "rejected": self.encode(Conversation(record.id, prompt + record.rejected)),
        }


def untrained(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The prompt of a pair: its earlier answers are given, not preferred."""
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
