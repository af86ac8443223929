"""What a model is asked, what it said, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from autoalign.evaluation.results import Question, Result
from autoalign.records import Message


@dataclass(frozen=True)
class Ask:
    """One question.

    Attributes:
        id: the same for every model, and for no other question of the benchmark.
        turns: what the user says; a later turn is asked after the answer to the one before.
        row: what its scoring needs, as `reference` or `tests`.
        temperature: of its answers where the job names none.
    """

    id: str
    turns: tuple[str, ...]
    row: Mapping[str, Any] = field(default_factory=dict)
    system: str | None = None
    temperature: float = 0.0

    @property
    def text(self) -> str:
        """All turns, for reports."""
        return "\n\n".join(self.turns)

    @property
    def opening(self) -> tuple[Message, ...]:
        """What stands before the first turn."""
        return () if self.system is None else (Message("system", self.system),)


@dataclass(frozen=True)
class Answered:
    """A question with its answers: `runs[run][turn]`."""

    ask: Ask
    runs: tuple[tuple[str, ...], ...]

    @property
    def last(self) -> tuple[str, ...]:
        """What each run came to: the answer to the last turn."""
        return tuple(turns[-1] for turns in self.runs)

    def conversation(self, run: int) -> tuple[Message, ...]:
        """The whole of one run."""
        messages = list(self.ask.opening)
        for said, answer in zip(self.ask.turns, self.runs[run], strict=True):
            messages += [Message("user", said), Message("assistant", answer)]
        return tuple(messages)


@dataclass(frozen=True)
class Scored:
    """A benchmark's figures and its questions."""

    results: tuple[Result, ...]
    questions: tuple[Question, ...] = ()
