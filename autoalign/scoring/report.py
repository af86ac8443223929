"""What a scoring job tells at its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev


@dataclass(frozen=True)
class ScoreReport:
    """Figures of one job.

    Attributes:
        rewards: those of each row: one, or chosen and rejected.
        truncated: answers that were cut off at the longest length.
        seconds: reading, loading and scoring together.
    """

    rewards: Sequence[Sequence[float]]
    truncated: int
    seconds: float
    output: Path

    @property
    def margins(self) -> list[float]:
        """Chosen less rejected reward of each pair."""
        return [row[0] - row[1] for row in self.rewards if len(row) == 2]

    @property
    def accuracy(self) -> float | None:
        """Share of the pairs whose chosen reward is the larger; None without pairs."""
        margins = self.margins
        return fmean(margin > 0 for margin in margins) if margins else None

    def summary(self) -> str:
        """Several lines for the terminal."""
        rewards = [reward for row in self.rewards for reward in row]
        lines = [
            f"done: {len(self.rewards)} rows, {len(rewards)} answers in {self.seconds:.1f} s",
            f"  reward   mean {fmean(rewards):.4f}, spread {pstdev(rewards):.4f}, "
            f"{min(rewards):.4f} to {max(rewards):.4f}",
        ]
        if self.accuracy is not None:
            margin = fmean(self.margins)
            lines.append(f"  pairs    accuracy {self.accuracy:.1%}, mean margin {margin:.4f}")
        if self.truncated:
            lines.append(f"  warning  {self.truncated} answers were cut off at max_length")
        return "\n".join([*lines, f"  output   {self.output}"])
