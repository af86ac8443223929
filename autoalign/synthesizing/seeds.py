"""Seeds from data files: a named key of each row, or what the row's format says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from autoalign import formats
from autoalign.errors import ConfigError, DataError
from autoalign.formats import Record
from autoalign.records import PreferencePair
from autoalign.synthesis import Method, Seed

_TEXT_KEYS = {"texts": ("text", "output"), "personas or texts": ("persona", "text"), "instructions": ()}


def read_seeds(method: Method, paths: Sequence[str], key: str | None, limit: int | None) -> list[Seed]:
    """The seeds of all files, each with an id of its own.

    Args:
        key: the row's key that holds the text. Without it: `text` or `persona` where the method wants
            one and the first row has it, else the first question of a conversation, or for a method
            that starts from texts its last answer.

    Raises:
        ConfigError: the method needs seeds and there are none, or the other way round.
        DataError: a row has no such text.
    """
    if method.seeds is None:
        if paths:
            raise ConfigError(f"{method.name} takes no seeds; leave seed_path out")
        return []
    if not paths:
        raise ConfigError(f"{method.name} starts from {method.seeds}: give --seed_path")
    found = [seed for path in paths for seed in islice(_of_file(method.seeds, path, key), limit)]
    return list(_distinct(found))


def _of_file(kind: str, path: str, key: str | None) -> Iterator[Seed]:
    first = next(iter(formats.read_rows(path))).value
    keys = (key,) if key is not None else _TEXT_KEYS[kind]
    plain = next((name for name in keys if isinstance(first, dict) and name in first), key)
    if plain is not None:
        return _of_key(path, plain)
    return _of_records(path, answers=kind == "texts")


def _of_key(path: str, key: str) -> Iterator[Seed]:
    for number, row in enumerate(formats.read_rows(path), 1):
        if row.problem is not None:
            raise row.problem
        value = row.value.get(key) if isinstance(row.value, dict) else None
        if not isinstance(value, str) or not value.strip():
            raise DataError("a text is expected", path, row.line, key)
        name = row.value.get("id") if isinstance(row.value, dict) else None
        yield Seed(str(name) if name is not None else f"{Path(path).stem}-{number}", value.strip())


def _of_records(path: str, answers: bool) -> Iterator[Seed]:
    purpose: formats.Purpose = "train" if answers else "prompts"
    for record in formats.load(path, purpose=purpose).records:
        yield Seed(record.id, _text(record, "assistant" if answers else "user").strip())


def _text(record: Record, role: str) -> str:
    messages = (*record.prompt, *record.chosen) if isinstance(record, PreferencePair) else record.messages
    said = [message.content for message in messages if message.role == role and message.content.strip()]
    if not said:
        raise DataError(f"no {role}'s turn", record.source, record.line)
    return said[-1] if role == "assistant" else said[0]


def _distinct(seeds: Sequence[Seed]) -> Iterator[Seed]:
    """A second `x` becomes `x#2`."""
    seen: dict[str, int] = {}
    for seed in seeds:
        count = seen[seed.id] = seen.get(seed.id, 0) + 1
        yield seed if count == 1 else Seed(f"{seed.id}#{count}", seed.text)
