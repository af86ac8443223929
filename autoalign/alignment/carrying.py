"""Which earlier rounds' data a training takes beside its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from autoalign.algorithms import Algorithm

T = TypeVar("T")


class Kind(NamedTuple):
    """What data are for; those of another kind fit another training job, or another model.

    Attributes:
        makes: "examples", "pairs" or "prompts".
        trains: the role that is trained on them.
    """

    makes: str
    trains: str

    @classmethod
    def of(cls, built: Algorithm) -> Kind:
        """Of a round's algorithm."""
        return cls(built.makes, built.trains)


def carried(before: Sequence[tuple[Kind, T]], kind: Kind, rounds: int) -> list[T]:
    """The last `rounds` of the earlier ones of that kind, the oldest first."""
    alike = [found for each, found in before if each == kind]
    return alike[len(alike) - min(rounds, len(alike)) :]
