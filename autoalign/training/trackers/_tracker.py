"""What a job tells a tracker, and what it asks of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

Outcome = Literal["finished", "stopped", "failed"]


class Position(NamedTuple):
    """How far a tracker has come: a step's training line goes before its evaluation."""

    step: int
    is_evaluation: bool


BEGINNING = Position(-1, False)


@dataclass(frozen=True)
class TrackedRun:
    """What is the same for every line.

    Attributes:
        run_id: the tracker's own, of the run to go on with; None begins one.
    """

    output_dir: Path
    project: str
    name: str
    job: str
    config: Mapping[str, Any]
    run_id: str | None = None


class Tracker(Protocol):
    """One open run. Called from one thread; anything may raise, and is tried again later."""

    run_id: str
    place: str
    """Where to look at it."""
    sent: Position
    """What the service itself knows to have; BEGINNING where it can't tell."""

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Figures named `train/loss`, `eval/loss`, ..."""

    def picture(self, path: Path, step: int) -> None:
        """A PNG file."""

    def close(self, outcome: Outcome) -> None:
        """Send what is left, and say how the job ended."""
