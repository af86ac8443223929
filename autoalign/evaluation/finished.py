"""Figures of benchmarks that an earlier run finished; they hold for what they were made from alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path

from autoalign.atomic_files import write_text
from autoalign.evaluation.benchmark import Benchmark
from autoalign.evaluation.results import Result

SUFFIX = ".result.json"
_PROMPTS = Path(__file__).resolve().parents[1] / "prompts"
_USED = ("judge", "guided", "refusal")  # of them, by judges and rules


def read(file: Path, benchmark: Benchmark) -> list[Result] | None:
    """The benchmark's figures; None where there are none, or they were made from something else."""
    told = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    if not isinstance(told, dict) or told["made_from"] != made_from(benchmark):
        return None
    return [Result(**row) for row in told["results"]]


def write(file: Path, benchmark: Benchmark, results: Sequence[Result]) -> None:
    """Keep the benchmark's figures."""
    told = {
        "made_from": made_from(benchmark),
        "judged": benchmark.judged,
        "results": [asdict(each) for each in results],
    }
    write_text(file, json.dumps(told, ensure_ascii=False, indent=1) + "\n")


def others(folder: Path, asked: Collection[str]) -> dict[str, str | None]:
    """How those in `folder` that are not `asked` were judged (`Benchmark.judged`), where that is known."""
    files = {file.name.removesuffix(SUFFIX): file for file in sorted(folder.glob(f"*{SUFFIX}"))}
    told = {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items()}
    return {name: each.get("judged") for name, each in told.items() if name not in asked}


def made_from(benchmark: Benchmark) -> str:
    """A hash of its questions, the file that describes it, who judges, and AutoAlign's own prompts.

    The config's keys that change answers are compared by `reuse`.
    """
    prompts = [path.read_bytes() for name in _USED for path in sorted((_PROMPTS / name).iterdir())]
    given = (benchmark.asks, benchmark.max_new_tokens, benchmark.source, benchmark.judged, prompts)
    return hashlib.blake2b(repr(given).encode("utf-8", "replace"), digest_size=16).hexdigest()
