"""`make bench`: fine-tuning side by side with TRL; alternating runs, medians, ratios.

    python -m benchmarks.run [--model M] [--data D] [--pairs 3]

Writes `benchmarks/results/sft.json` and prints a table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SIDES = ("ours", "trl_defaults", "trl_tuned")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure all sides `--pairs` times, in turn."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="models/smollm2-135m-instruct")
    parser.add_argument("--data", default="data/persona_sft.jsonl")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--pairs", type=int, default=3, help="runs of each side")
    options = parser.parse_args(argv)
    runs: list[dict[str, Any]] = []
    for number in range(options.pairs):
        for side in SIDES:
            runs.append(_measure(side, options))
            print(f"run {number + 1}/{options.pairs}  {runs[-1]}", flush=True)
    summary = summarise(runs)
    _write(summary, runs, options)
    print(table(summary))
    return 0


def _measure(side: str, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.sft_sides", side]
    for name in ("model", "data", "batch_size", "steps"):
        command += [f"--{name}", str(getattr(options, name))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{side} failed:\n{done.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def summarise(runs: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Medians of each side, and ours over each peer's run by run."""
    sides = {side: [run for run in runs if run["side"] == side] for side in SIDES}
    return {
        side: {
            "tokens_per_second": statistics.median(run["tokens_per_second"] for run in own),
            "peak_mib": statistics.median(run["peak_mib"] for run in own),
            "ours_over_it": statistics.median(
                ours["tokens_per_second"] / run["tokens_per_second"]
                for ours, run in zip(sides["ours"], own, strict=True)
            ),
        }
        for side, own in sides.items()
    }


def table(summary: dict[str, dict[str, float]]) -> str:
    """The summary as a Markdown table."""
    lines = ["| side | tok/s (median) | ours / it | peak memory, MiB |", "|---|---|---|---|"]
    for side, row in summary.items():
        lines.append(
            f"| {side} | {row['tokens_per_second']:.0f} | {row['ours_over_it']:.2f} | {row['peak_mib']:.0f} |"
        )
    return "\n".join(lines)


def _write(
    summary: dict[str, dict[str, float]], runs: Sequence[dict[str, Any]], options: argparse.Namespace
) -> None:
    folder = ROOT / "benchmarks" / "results"
    folder.mkdir(parents=True, exist_ok=True)
    machine = {"cpus": os.cpu_count(), "processor": platform.processor() or platform.machine()}
    content = {"machine": machine, "options": vars(options), "summary": summary, "runs": list(runs)}
    (folder / "sft.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
