"""Time and peak memory at the end of every step, taken the same way for every side."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple


class Mark(NamedTuple):
    """The end of a step: seconds on the monotonic clock, and the process's peak so far in MiB."""

    seconds: float
    peak_mib: float


class Meter:
    """Collects a mark a step."""

    def __init__(self) -> None:
        self.marks: list[Mark] = []

    def step_ended(self) -> None:
        """To be called when an optimizer step is done."""
        self.marks.append(Mark(time.monotonic(), peak_mib()))


def figures(
    marks: Sequence[Mark], amounts: Sequence[int], extra_seconds: float = 0.0, **more: Any
) -> dict[str, Any]:
    """Speed and memory of a side; the first step warms up and is left out.

    Args:
        amounts: tokens (or pairs) of each step, the warm-up's first.
        extra_seconds: work outside the steps that belongs to the measured ones.
        more: goes into the figures as it is.
    """
    if len(marks) != len(amounts):
        raise SystemExit(f"{len(marks)} steps were run instead of {len(amounts)}")
    seconds = marks[-1].seconds - marks[0].seconds + extra_seconds
    return {
        "amount": sum(amounts[1:]),
        "seconds": round(seconds, 3),
        "per_second": sum(amounts[1:]) / seconds,
        "peak_mib": round(marks[-1].peak_mib),
        "step_seconds": [round(b.seconds - a.seconds, 3) for a, b in pairwise(marks)],
        **more,
    }


def peak_mib() -> float:
    """Peak memory in MiB: the GPU's where there is one, else this process's resident size."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() / 2**20
    # ru_maxrss would start at the size of whoever started this process.
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    assert found is not None
    return int(found[1]) / 1024
