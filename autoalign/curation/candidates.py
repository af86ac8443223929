"""The answers to one prompt, ready to be paired; and what a strategy is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from autoalign.records import Message


@dataclass(frozen=True, slots=True)
class Candidate:
    """One scored answer; `id` is its row's."""

    id: str
    answer: tuple[Message, ...]
    score: float

    @property
    def text(self) -> str:
        """What it says last."""
        return self.answer[-1].content


@dataclass(frozen=True, slots=True)
class Rules:
    """What the strategies may look at.

    Attributes:
        threshold: of `threshold`: scores from here on are good.
        min_margin: the least difference of a pair's scores; equal scores are never a pair.
        max_pairs: the most pairs of one prompt; None is the strategy's own.
        seed: text that decides what is drawn; each prompt has its own.
    """

    threshold: float = 0.5
    min_margin: float = 0.0
    max_pairs: int | None = None
    seed: str = ""

    def allow(self, chosen: Candidate, rejected: Candidate) -> bool:
        """Whether the scores are far enough apart, the right way round."""
        margin = chosen.score - rejected.score
        return margin > 0 and margin >= self.min_margin


class Choice(NamedTuple):
    """Pairs (chosen, rejected); where there are none, why."""

    pairs: list[tuple[Candidate, Candidate]]
    reason: str = ""


class Strategy(Protocol):
    """What a file in `strategies/` provides."""

    def choose(self, candidates: Sequence[Candidate], rules: Rules, /) -> Choice:
        """Pairs of `candidates`: at least two, all of different text."""
        ...


def ordered(candidates: Sequence[Candidate], rules: Rules) -> list[tuple[Candidate, Candidate]]:
    """Every pair that the rules allow, in the candidates' order."""
    return [(left, right) for left in candidates for right in candidates if rules.allow(left, right)]


def too_close(candidates: Sequence[Candidate], rules: Rules) -> str:
    """Why no two of them are a pair."""
    if len({candidate.score for candidate in candidates}) == 1:
        return "all scores are equal"
    return f"no two scores differ by {rules.min_margin:g}"


def limited(pairs: list[tuple[Candidate, Candidate]], most: int | None) -> list[Any]:
    """The first `most` pairs."""
    return pairs if most is None else pairs[:most]
