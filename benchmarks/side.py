"""One side in a process of its own; prints its figures as one JSON line.

python -m benchmarks.side SETTINGS.json SIDE [LAYOUT]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.plan import Settings


def main(argv: Sequence[str]) -> None:
    """Run one side."""
    settings, side = Settings.read(Path(argv[0])), argv[1]
    layout = argv[2] if len(argv) > 2 else "padded"
    print("\n" + json.dumps({"side": side, **_measure(settings, side, layout)}))


def _measure(settings: Settings, side: str, layout: str) -> dict[str, Any]:
    kind, _, name = side.partition("/")
    if kind == "prepare":
        return _prepare(settings, name)
    if name == "gemm":
        from benchmarks import gemm

        return gemm.measure(settings)
    if name == "profile":
        from benchmarks import profiling

        return profiling.measure(settings)
    if name.startswith("autoalign"):
        from benchmarks import autoalign_side as ours

        return ours.measure_sft(settings) if kind == "sft" else ours.measure_dpo(settings, "cached" in name)
    from benchmarks import trl_side

    if kind == "sft":
        return trl_side.measure_sft(settings, layout if "tuned" in name else None)
    return trl_side.measure_dpo(settings, layout, "precomputed" in name)


def _prepare(settings: Settings, kind: str) -> dict[str, Any]:
    from benchmarks import workload

    workload.write(settings, [kind])
    steps = workload.read(settings, kind)
    if kind == "sft":
        return {"tokens": workload.amounts(steps, kind), "supervised": workload.supervised(steps)}
    from benchmarks import autoalign_side

    autoalign_side.fill_cache(settings)
    return {"tokens": [sum(map(workload.pair_tokens, step)) for step in steps]}


if __name__ == "__main__":
    main(sys.argv[1:])
