"""What the sampling benchmark measures: its sides, its sizes, what is compared with what."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, Self

SIDES = ("autoalign", "AsyncLLM", "LLM.generate", "autoalign, Ray", "ray.data.llm")
# A round; ray.data.llm keeps one answer a prompt, and LLM.generate with seeds dies on a CPU.
RUNS = (*((side, 1) for side in SIDES), ("autoalign", 8), ("AsyncLLM", 8))


class Comparison(NamedTuple):
    """Our output tokens/s over a peer's, and what they should be at least."""

    peer: str
    n: int
    aim: float


COMPARISONS = (
    Comparison("LLM.generate", 1, 1.0),
    Comparison("AsyncLLM", 1, 0.97),
    Comparison("AsyncLLM", 8, 0.97),
)
LEDGER_AIM = 0.01  # share of the time


@dataclass(frozen=True)
class Settings:
    """Sizes of a run; every side reads them from a file.

    Args:
        folder: where `prepare` puts the prompts and their token ids, and where our answers go.
        rows: prompts with one answer each; an eighth of them have 8 answers each.
        max_tokens: longest answer.
    """

    model: str
    gsm8k: str
    alpaca: str
    folder: str
    rows: int = 512
    max_tokens: int = 64
    seed: int = 42

    def prompts(self, n: int) -> int:
        """How many prompts have `n` answers each."""
        return max(1, self.rows // n)

    @property
    def prompt_file(self) -> Path:
        """The prompts, as our side reads them."""
        return Path(self.folder) / "prompts.jsonl"

    @property
    def ids_file(self) -> Path:
        """Their token ids, one line each, for the other sides."""
        return Path(self.folder) / "ids.jsonl"

    def write(self, path: Path) -> None:
        """As JSON, for the sides."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self:
        """What `write` has written."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))
