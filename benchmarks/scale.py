"""`make bench-scale`: the sampling pipeline around an engine that costs nothing.

    python -m benchmarks.scale [--rows 1000000] [--launcher local] [--replicas 1 2 4 8] [--chat MODEL]

Rows a second and memory with many rows; and how answers a second grow with replicas whose every answer takes
half a second. Writes benchmarks/results/scale.json, and puts the table into docs/scale.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from itertools import product
from operator import itemgetter
from pathlib import Path
from typing import Any

from autoalign import manifest
from benchmarks import docs_page, machine, scale_model, scale_run, scale_summary

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "scale.json"
BLOCK, MODEL_BLOCK = "bench-scale", "bench-scale-model"
_PACKAGES = ("ray", "pyarrow", "orjson")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is asked for, and write it down beside what was measured before."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--rows", type=int, nargs="*", default=[100_000, 1_000_000], help="sizes of the jobs; none: skip")
    add(
        "--launcher",
        choices=["ray", "local"],
        nargs="*",
        default=["ray", "local"],
        help="of the jobs with rows",
    )
    add("--replicas", type=int, nargs="*", default=[1, 2, 4, 8], help="numbers of replicas; none: skip")
    add("--seconds", type=float, default=15, help="length of a run with replicas")
    add("--chat", help="a model folder: its chat template renders the prompts and its tokenizer cuts them")
    add("--folder", help="where the files of a job go; it must hold 1 kB a row (default: a temporary one)")
    add("--docs", default=str(ROOT / "docs" / "scale.md"), help="page to update; empty: none")
    options = parser.parse_args(argv)
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    with tempfile.TemporaryDirectory(prefix="bench-scale-", dir=options.folder) as folder:
        for count, launcher in product(options.rows, options.launcher):
            figures = scale_run.rows(Path(folder), count, options.chat, launcher)
            kind = ("/local" if launcher == "local" else "") + ("/chat" if options.chat else "")
            found[f"rows/{count}{kind}"] = _noted(figures)
        for count in options.replicas:
            found[f"replicas/{count}"] = _noted(scale_run.replicas(Path(folder), count, options.seconds))
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_json(RESULTS, found)
    text = scale_summary.tables(found)
    print(text)
    if options.docs:
        docs_page.update(Path(options.docs), BLOCK, text)
        largest = largest_job(found)
        if largest is not None:
            model = scale_model.table(scale_model.Constants.of(largest))
            docs_page.update(Path(options.docs), MODEL_BLOCK, model)
    return 0


def largest_job(found: dict[str, Any]) -> dict[str, Any] | None:
    """The one with the most rows; where any went through Ray, as a thousand replicas would, one of those."""
    jobs = {key: one for key, one in found.items() if key.startswith("rows/")}
    through_ray = {key: one for key, one in jobs.items() if "local" not in key.split("/")}
    return max((through_ray or jobs).values(), key=itemgetter("rows"), default=None)


def _noted(figures: dict[str, Any]) -> dict[str, Any]:
    print(figures, flush=True)
    facts = machine.facts(ROOT, _PACKAGES)
    return {
        **figures,
        **{key: facts[key] for key in ("date", "commit", "processor", "cpus", "load_at_start")},
    }


if __name__ == "__main__":
    sys.exit(main())
