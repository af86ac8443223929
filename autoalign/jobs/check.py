"""A config from a user of the platform: validated by the job's own class, its paths confined."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from autoalign.errors import InputError, nearest
from autoalign.jobs.kinds import Kind, Role
from autoalign.jobs.nesting import is_deeper, levels
from autoalign.jobs.roots import inside, is_plain_name

_LONGEST_TEXT = 100_000  # characters
_LONGEST_NAME = 1000  # characters of a mapping's key
_LARGEST = 2**63  # of integers that are written again
_DEEPEST = 64  # levels of mappings and lists in a key's value


class InvalidField(InputError):
    """A field of a request is wrong.

    Args:
        field: its name, dotted; None where it is the request as a whole.
        message: what was found and what was expected.
    """

    def __init__(self, field: str | None, message: str) -> None:
        super().__init__(field, message)
        self.field, self.message = field, message

    def __str__(self) -> str:
        return f"'{self.field}': {self.message}" if self.field else self.message


class References(Protocol):
    """What a user's names of models and data stand for; None where there is no such thing for them."""

    def model(self, name: str) -> str | None:
        """A model's folder, or its name on the hub."""

    def data(self, name: str) -> str | None:
        """A file's path."""


def check(
    kind: Kind,
    values: Mapping[str, Any],
    references: References,
    folder: Path,
    defaults: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The keys to write into the job's config file.

    Args:
        values: what the user gives.
        folder: the job's own; results go below it.
        defaults: what the operator gives, taken as it is.

    Raises:
        InvalidField: a key is unknown, closed, of the wrong type, or names what the user may not see.
    """
    resolved: dict[str, Any] = dict(defaults or {})
    for key, value in values.items():
        if key not in kind.config.model_fields:
            raise InvalidField(key, f"unknown key '{key}'{nearest(key, kind.config.model_fields)}")
        if is_deeper(value, _DEEPEST):
            raise InvalidField(key, f"nested deeper than {_DEEPEST} levels")
        _require_storable(key, value)
        if key in kind.nested:
            resolved[key] = _Mapping(kind, key, references, folder).resolve(value, key, kind.nested[key])
        else:
            resolved[key] = _each(value, _resolver(kind.role(key), key, references, folder))
    for key, default in kind.outputs.items():
        if resolved.get(key) is None:
            resolved[key] = str(folder / default)
    try:
        config = kind.config.model_validate(resolved)
    except ValidationError as error:
        raise _explained(error, kind) from None
    return config.model_dump(mode="json", exclude_unset=True)


def _require_storable(key: str, value: Any) -> None:
    """Refuse what the database or its reader can't take: at any depth, names in mappings and numbers.

    Texts are for the key's role to look at.
    """
    names: list[str] = []
    parts = [value]
    for mapping_or_list in chain.from_iterable(levels(value)):
        if isinstance(mapping_or_list, dict):
            names += mapping_or_list
            parts += mapping_or_list.values()
        else:
            parts += mapping_or_list
    if not all(is_storable(name) and len(name) <= _LONGEST_NAME for name in names):
        expected = f"names of at most {_LONGEST_NAME} characters of UTF-8 without NUL are expected"
        raise InvalidField(key, expected)
    numbers = [part for part in parts if isinstance(part, int | float)]
    if not all(_is_plain(number) for number in numbers):
        raise InvalidField(key, "finite numbers are expected, integers of at most 64 bits")


def _is_plain(number: float) -> bool:
    return abs(number) < _LARGEST if isinstance(number, int) else math.isfinite(number)


def _each(value: Any, resolve: Callable[[str], str]) -> Any:
    """`value` with every text in it resolved."""
    if isinstance(value, str):
        return resolve(value)
    if isinstance(value, list):
        return [_each(part, resolve) for part in value]
    return value


@dataclass(frozen=True)
class _Mapping:
    """Resolves what stands in the mapping, or the list of mappings, of one key."""

    kind: Kind
    key: str
    references: References
    folder: Path

    def resolve(self, value: Any, place: str, roles: Mapping[str, Role]) -> Any:
        """`value` with every text in it resolved; a key without a role may hold numbers alone."""
        if isinstance(value, list):
            return [self.resolve(part, place, roles) for part in value]
        if not isinstance(value, dict):
            raise InvalidField(place, "a mapping is expected")
        return {name: self._part(part, name, place, roles) for name, part in value.items()}

    def _part(self, part: Any, name: str, place: str, roles: Mapping[str, Role]) -> Any:
        inside = f"{place}.{name[:100]}"
        if isinstance(part, dict):
            return self.resolve(part, inside, self.kind.nested.get(f"{self.key}.*", {}))
        role = roles.get(name, roles.get("*"))
        if role is None:
            role = Role.TEXT if isinstance(part, bool | int | float | None) else Role.CLOSED
        return _each(part, _resolver(role, inside, self.references, self.folder))


def _resolver(role: Role, key: str, references: References, folder: Path) -> Callable[[str], str]:
    if role is Role.CLOSED:
        raise InvalidField(key, "is set by the platform; leave it out")

    def resolve(text: str) -> str:
        if not is_storable(text) or len(text) > _LONGEST_TEXT:
            raise InvalidField(
                key, f"UTF-8 text of at most {_LONGEST_TEXT} characters without NUL is expected"
            )
        found = _resolved(role, text, references, folder)
        if found is None:
            raise InvalidField(key, f"{_EXPECTED[role]} is expected (got {text[:200]!r})")
        return found

    return resolve


_EXPECTED = {
    Role.NAME: "a plain name of letters, digits and . _ - +",
    Role.MODEL: "a model of yours, a folder below one of the platform's roots, or ORG/NAME on the hub",
    Role.DATA: "the id of a file of yours, or a file below one of the platform's roots",
    Role.CHOICE: "a name that AutoAlign knows, or a file below one of the platform's roots",
    Role.OUTPUT: "a path relative to the job's own folder",
}


def is_storable(text: str) -> bool:
    """Whether a database can keep a text: no NUL, no half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _resolved(role: Role, text: str, references: References, folder: Path) -> str | None:
    if role is Role.TEXT:
        return text
    if role is Role.NAME:
        return text if is_plain_name(text) else None
    if role is Role.OUTPUT:
        place = inside(folder / "out", text)
        return str(place) if place else None
    if role is Role.CHOICE:
        is_file = "/" in text or Path(text).suffix in (".jinja", ".json", ".txt")
        return references.data(text) if is_file else (text if is_plain_name(text) else None)
    name, weight = _weighted(text)
    found = references.model(name) if role is Role.MODEL else references.data(name)
    return None if found is None else found + weight


def _weighted(text: str) -> tuple[str, str]:
    """`PATH@0.7` as the path and `@0.7`."""
    name, at, weight = text.rpartition("@")
    try:
        float(weight)
    except ValueError:
        return text, ""
    return (name, at + weight) if at else (text, "")


def _explained(error: ValidationError, kind: Kind) -> InvalidField:
    detail = error.errors()[0]
    field = ".".join(str(part) for part in detail["loc"]) or None
    message = str(detail["msg"]).removeprefix("Value error, ")
    if field is None:
        # A check over several keys begins its message with the one that is wrong.
        named = message.split("'")[1] if message.count("'") > 1 else ""
        field = named if named in kind.config.model_fields else None
    return InvalidField(field, message)
