"""What a run measures: its sizes, its sides, and what is compared with what."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

MEMORY_AIM = 0.7

SFT_LAYOUTS = {
    "padded": "8 rows padded to the longest",
    "grouped 4x2": "rows of similar length together, two padded micro-batches of 4",
    "single": "8 micro-batches of one row, no padding",
    "packed": "8 rows packed into one sequence",
    "packed 4x2": "two packed sequences of 4 rows",
}
"""How TRL may lay out the rows of a step; the fastest in a short sweep is `trl tuned`."""

DPO_LAYOUTS = {"padded": "both pairs padded together", "single": "one pair at a time"}


class Comparison(NamedTuple):
    """Our side over a peer's: how many times as fast it should be."""

    ours: str
    peer: str
    aim: float


COMPARISONS = (
    Comparison("sft/autoalign", "sft/trl", 8.0),
    Comparison("sft/autoalign", "sft/trl tuned", 4.5),
    Comparison("dpo/autoalign cold", "dpo/trl cold", 4.0),
    Comparison("dpo/autoalign cached", "dpo/trl precomputed", 4.5),
)
SIDES = {
    "sft": ("sft/autoalign", "sft/trl", "sft/trl tuned", "sft/gemm"),
    "dpo": ("dpo/autoalign cold", "dpo/trl cold", "dpo/autoalign cached", "dpo/trl precomputed"),
}
UNITS = {"sft": "tokens/s", "dpo": "pairs/s"}


@dataclass(frozen=True)
class Settings:
    """Sizes of a run; every side reads them from a file.

    Args:
        folder: where `prepare` puts data, token ids and the cached log-probs.
        steps: optimizer steps measured, after one of short rows that warms up.
        threads: CPU threads of each side.
        sft_config, dpo_config: keys of our config that differ from the benchmark's.
    """

    model: str
    sft_data: str
    dpo_data: str
    folder: str
    threads: int
    steps: int = 2
    rows: int = 8
    pairs_a_step: int = 2
    max_length: int = 1024
    pair_length: int = 512
    sft_config: dict[str, Any] = field(default_factory=dict)
    dpo_config: dict[str, Any] = field(default_factory=dict)

    @property
    def total_steps(self) -> int:
        """The warm-up counted."""
        return self.steps + 1

    def examples(self, kind: str) -> int:
        """Rows or pairs in a step."""
        return self.rows if kind == "sft" else self.pairs_a_step

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self), indent=2), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self:
        """What `write` wrote."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))
