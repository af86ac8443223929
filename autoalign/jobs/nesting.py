"""How deep JSON from a user is nested: what writes it again has a limit of its own, and fails beyond it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any


def levels(value: Any) -> Iterator[list[dict[str, Any] | list[Any]]]:
    """The mappings and lists of each level, the outermost first; no recursion, so any depth is fine."""
    level = [value] if isinstance(value, dict | list) else []
    while level:
        yield level
        parts = (part.values() if isinstance(part, dict) else part for part in level)
        level = [inner for part in parts for inner in part if isinstance(inner, dict | list)]


def is_deeper(value: Any, most: int) -> bool:
    """Whether there are more than `most` levels of mappings and lists."""
    return next(islice(levels(value), most, None), None) is not None
