"""The types that the readers, the rules and the formats share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Protocol, cast

from autoalign import plugins
from autoalign.errors import DataError
from autoalign.records import Conversation, LabelledAnswer, PreferencePair

Kind = Literal["sft", "preference", "unpaired"]
Purpose = Literal["train", "prompts", "answers"]
Record = Conversation | PreferencePair | LabelledAnswer
Row = Mapping[str, Any]


class RawRow(NamedTuple):
    """One row as it stands in a file; `problem` says why it could not be read."""

    line: int
    value: Any
    problem: DataError | None = None


class Format(Protocol):
    """What a format's module provides."""

    KIND: Kind
    FIELDS: tuple[str, ...]

    def matches(self, row: Row, /) -> bool:
        """Whether the row's keys are this format's."""
        ...

    def parse(self, row: Row, /) -> Record:
        """The row as a record; DataError with its field where it is wrong."""
        ...

    def dump(self, record: Any, /) -> dict[str, Any]:
        """The record as a row; DataError where the format cannot hold it."""
        ...


def format_names() -> list[str]:
    """The formats there are, sorted."""
    return plugins.names("autoalign.formats")


def get_format(name: str) -> Format:
    """The format `name`.

    Raises:
        UnknownName: no such format; the message lists them.
    """
    return cast(Format, plugins.load("autoalign.formats", name))


def short_name(format_: Format) -> str:
    """A format's name as `--format` takes it."""
    return cast(str, getattr(format_, "__name__", "")).rsplit(".", 1)[-1]


def describe(value: object) -> str:
    """A value for a message, by its JSON type: `a number (42)`."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"{value}".lower()
    if isinstance(value, int | float):
        return f"a number ({value})"
    if isinstance(value, str):
        return f"text ({value[:40]!r})"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, Mapping):
        keys = ", ".join(str(key) for key in list(value)[:6])
        return f"an object with keys {keys}" if keys else "an empty object"
    return type(value).__name__
