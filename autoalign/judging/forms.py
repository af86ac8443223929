"""What a judge is asked to give: how it is read in free text, and the JSON that a guided judge is held to.

A guided judge is one whose engine lets it write nothing but JSON of a schema (guided decoding,
arXiv:2307.09702). Its verdict can always be read unless it is cut off; a weak judge is no wiser for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar, cast

from autoalign.judging.verdicts import (
    Preference,
    Reaction,
    read_grade,
    read_points,
    read_preference,
    read_reaction,
    read_strength,
)

T = TypeVar("T")
FOLDER = Path(__file__).resolve().parents[1] / "prompts" / "guided"


class Guide(NamedTuple):
    """What a guided judge is told at the end of its question; its JSON schema (text); the schema's keys."""

    ask: str
    schema: str
    keys: frozenset[str]


@dataclass(frozen=True)
class Form(Generic[T]):
    """A kind of verdict.

    Attributes:
        name: a file of `autoalign/prompts/guided`.
        read: the value in a free text; None where there is none.
        take: the value in an object with the schema's keys; None where one of them is not as it should be.
    """

    name: str
    read: Callable[[str], T | None]
    take: Callable[[Mapping[str, Any]], T | None]

    @property
    def guide(self) -> Guide:
        """From its file."""
        return _guide(self.name)

    def read_guided(self, text: str) -> T | None:
        """The value in a guided judge's reply, one object with the schema's keys and nothing else."""
        found = _object(text)
        return self.take(found) if found is not None and found.keys() == self.guide.keys else None


def reason(text: str) -> str:
    """The `reason` in a guided judge's reply; the text itself where there is none."""
    said = (_object(text) or {}).get("reason")
    return said if isinstance(said, str) else text


def _object(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _points(found: Mapping[str, Any]) -> int | None:
    score = found["score"]
    return score if type(score) is int and 0 <= score <= 5 else None


def _preference(found: Mapping[str, Any]) -> Preference | None:
    said = found["preference"]
    return cast(Preference, said) if said in ("A", "B", "tie") else None


def _grade(found: Mapping[str, Any]) -> float | None:
    grade = found["grade"]
    return float(grade) if type(grade) is int and 1 <= grade <= 10 else None


def _strength(found: Mapping[str, Any]) -> float | None:
    return read_strength(f"[[{found['verdict']}]]")


def _reaction(found: Mapping[str, Any]) -> Reaction | None:
    return read_reaction(f"[[{found['reaction']}]]")


@cache
def _guide(name: str) -> Guide:
    found = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    schema = found["schema"]
    return Guide(found["ask"], json.dumps(schema, ensure_ascii=False), frozenset(schema["required"]))


POINTS: Form[int] = Form("points", read_points, _points)
PREFERENCE: Form[Preference] = Form("preference", read_preference, _preference)
GRADE: Form[float] = Form("grade", read_grade, _grade)
STRENGTH: Form[float] = Form("strength", read_strength, _strength)
REACTION: Form[Reaction] = Form("reaction", read_reaction, _reaction)
