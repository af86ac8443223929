"""What a scoring job tells at its end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Figures:
    """Mean, spread and range of numbers that are seen once (Welford's method)."""

    count: int = 0
    mean: float = 0.0
    lowest: float = math.inf
    highest: float = -math.inf
    _squares: float = 0.0

    def add(self, value: float) -> None:
        """One more."""
        self.count += 1
        before = value - self.mean
        self.mean += before / self.count
        self._squares += before * (value - self.mean)
        self.lowest, self.highest = min(self.lowest, value), max(self.highest, value)

    @property
    def spread(self) -> float:
        """Population standard deviation; 0 of nothing."""
        return math.sqrt(self._squares / self.count) if self.count else 0.0


@dataclass
class Tally:
    """Figures by scorer.

    Attributes:
        rows: rows with all their scores.
        scores: of every answer.
        margins: chosen less rejected score of each pair.
        wins: pairs whose chosen score is the larger.
        truncated: answers that were cut off before they were scored.
    """

    rows: int = 0
    scores: dict[str, Figures] = field(default_factory=dict)
    margins: dict[str, Figures] = field(default_factory=dict)
    wins: dict[str, int] = field(default_factory=dict)
    truncated: int = 0

    def add(self, values: Mapping[str, Sequence[float]]) -> None:
        """The scores of one row: of one answer, or of chosen and rejected."""
        self.rows += 1
        for name, given in values.items():
            figures = self.scores.setdefault(name, Figures())
            for value in given:
                figures.add(value)
            if len(given) == 2:
                self.margins.setdefault(name, Figures()).add(given[0] - given[1])
                self.wins[name] = self.wins.get(name, 0) + (given[0] > given[1])


@dataclass(frozen=True)
class ScoreReport:
    """Figures of one job.

    Attributes:
        failed: rows that could not be scored.
        seconds: reading, loading and scoring together.
        errors: the file with the reasons, where there are any.
    """

    tally: Tally
    failed: int
    seconds: float
    output: Path
    errors: Path | None

    @property
    def rows(self) -> int:
        """Rows in the output."""
        return self.tally.rows

    @property
    def error_rate(self) -> float:
        """Share of the rows that could not be scored."""
        return self.failed / max(self.rows + self.failed, 1)

    def accuracy(self, name: str) -> float | None:
        """Share of the pairs whose chosen answer has the larger score; None without pairs."""
        margins = self.tally.margins.get(name)
        return self.tally.wins[name] / margins.count if margins else None

    def summary(self) -> str:
        """Several lines for the terminal."""
        answers = max((figures.count for figures in self.tally.scores.values()), default=0)
        lines = [f"done: {self.rows} rows, {answers} answers in {self.seconds:.1f} s"]
        width = max(len(name) for name in (*self.tally.scores, "output"))
        for name, figures in self.tally.scores.items():
            lines.append(
                f"  {name:<{width}}  mean {figures.mean:.4f}, spread {figures.spread:.4f}, "
                f"{figures.lowest:.4f} to {figures.highest:.4f}"
            )
            if (accuracy := self.accuracy(name)) is not None:
                margin = self.tally.margins[name].mean
                lines.append(f"  {'':<{width}}  pairs: accuracy {accuracy:.1%}, mean margin {margin:.4f}")
        if self.tally.truncated:
            lines.append(f"  warning: {self.tally.truncated} answers were cut off at max_length")
        if self.failed:
            lines.append(
                f"  {'errors':<{width}}  {self.failed} rows can't be scored; the reasons are in {self.errors}"
            )
        return "\n".join([*lines, f"  {'output':<{width}}  {self.output}", *self._next()])

    def _next(self) -> list[str]:
        """The command that takes the scores on, where they are of answers and not of pairs already."""
        if self.tally.margins:
            return []
        pairs = self.output.with_name(f"{self.output.stem}.pairs.jsonl")
        return [f"next: autoalign-cli data pairs {self.output} --output {pairs}"]
