"""What a synthesis job tells at its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class SynthesisReport:
    """Figures of one job.

    Attributes:
        kept: rows in `output`.
        reasons: how many rows were dropped for each reason; they are in `dropped`.
        asked: texts that an engine was asked for; `reused`: those of an earlier run.
        errors: reasons for which texts could not be had, with their counts.
        wanted: `num_rows`.
    """

    method: str
    kept: int
    reasons: Mapping[str, int]
    asked: int
    reused: int
    output_tokens: int
    errors: Mapping[str, int]
    wanted: int | None
    seconds: float
    output: Path
    dropped: Path

    @property
    def made(self) -> int:
        """Rows kept and dropped."""
        return self.kept + sum(self.reasons.values())

    def to_dict(self) -> dict[str, Any]:
        """What `NAME.report.json` holds."""
        return {
            "method": self.method,
            "made": self.made,
            "kept": self.kept,
            "dropped": dict(self.reasons),
            "texts": {"asked": self.asked, "reused": self.reused, "output_tokens": self.output_tokens},
            "errors": dict(self.errors),
            "seconds": round(self.seconds, 3),
        }

    def summary(self) -> str:
        """Several lines for the terminal."""
        lines = [
            f"{self.method}: {self.made:,} rows made, {self.kept:,} kept, in {self.seconds:.1f} s",
            f"  texts    {self.asked:,} asked, {self.reused:,} from an earlier run, "
            f"{self.output_tokens:,} output tokens",
            *(f"  dropped  {count:>7,}  {reason}" for reason, count in _largest_first(self.reasons)),
            *(f"  error    {count:>7,}  {reason}" for reason, count in _largest_first(self.errors)),
        ]
        if self.wanted is not None and self.kept < self.wanted:
            lines.append(f"  warning  {self.kept:,} rows instead of the {self.wanted:,} that were wanted")
        if self.reasons:
            lines.append(f"  dropped rows in {self.dropped}")
        return "\n".join(
            [*lines, f"  output   {self.output}", f"next: autoalign-cli data stats {self.output}"]
        )


def _largest_first(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: -item[1])
