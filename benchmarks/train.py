"""`make bench-train`: fine-tuning and preference training side by side with TRL.

    python -m benchmarks.train [--pairs 5] [--steps 1] [--quick] [--profile] [--resume]

Sides run in turn, each in a process of its own. Writes benchmarks/results/train.json and train.png, and
puts the tables into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from autoalign import manifest
from benchmarks import docs_page, machine, picture, summary
from benchmarks.plan import DPO_LAYOUTS, SFT_LAYOUTS, SIDES, Settings

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DATA = ROOT.parent / "shared" / "data"
BLOCK, PROFILE_BLOCK = "bench-train", "bench-train-profile"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and write down what came out."""
    options = _parser().parse_args(argv)
    if options.quick:
        options.pairs, options.steps = 1, 1
    elif options.steps is None:
        options.steps = 2 if options.profile else 1
    with tempfile.TemporaryDirectory(prefix="bench-train-") as folder:
        bench = Bench(options, folder)
        if options.profile:
            bench.profile()
        else:
            bench.compare()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", default="models/smollm2-135m-instruct")
    add("--sft_data", default=str(DATA / "gsm8k" / "train.jsonl"), help="rows that formats.load knows")
    add("--dpo_data", default=str(DATA / "demos" / "dpo_en_demo.json"), help="pairs in ShareGPT's form")
    add("--pairs", type=int, default=5, help="runs of each side")
    add(
        "--steps",
        type=int,
        help="measured steps of a run, after a short one that warms up (default 1, profile 2)",
    )
    add("--threads", type=int, default=len(os.sched_getaffinity(0)))
    add("--only", choices=list(SIDES), help="one kind of training alone")
    add("--layout", choices=list(SFT_LAYOUTS), help="TRL tuned's layout, instead of the sweep's fastest")
    add("--set", nargs="*", default=[], metavar="KEY=VALUE", help="keys of our sft config")
    add("--set_dpo", nargs="*", default=[], metavar="KEY=VALUE", help="keys of our dpo config")
    add("--profile", action="store_true", help="profile our steps instead")
    add("--quick", action="store_true", help="see that it runs: tiny steps, nothing goes into the docs")
    add("--resume", action="store_true", help="go on with an interrupted run of the same settings")
    add("--docs", default=str(ROOT / "docs" / "benchmarks.md"), help="page to update")
    return parser


class Bench:
    """One run: settings, the processes of its sides, and its files."""

    def __init__(self, options: argparse.Namespace, folder: str) -> None:
        self.options, self.folder = options, Path(folder)
        sizes: dict[str, Any] = {"steps": options.steps}
        if options.quick:
            sizes |= {"rows": 2, "pairs_a_step": 1, "pair_length": 128}
        self.settings = Settings(
            model=str((ROOT / options.model).resolve()),
            sft_data=options.sft_data,
            dpo_data=options.dpo_data,
            folder=folder,
            threads=options.threads,
            sft_config=_values(options.set),
            dpo_config=_values(options.set_dpo),
            **sizes,
        )
        self.settings.write(self.folder / "settings.json")
        self.machine = machine.facts(ROOT)
        RESULTS.mkdir(parents=True, exist_ok=True)
        self.partial = RESULTS / "train.partial.json"
        self.done: dict[str, dict[str, Any]] = {}
        if options.resume and self.partial.is_file():
            found = json.loads(self.partial.read_text(encoding="utf-8"))
            if found["signature"] == self._signature():
                self.done, self.machine = found["done"], found["machine"]
        if self.machine["load_at_start"] > 0.5:
            print(f"warning: the machine is busy (load {self.machine['load_at_start']})", flush=True)

    def compare(self) -> None:
        """All sides in turn, then tables, picture and JSON."""
        kinds = [self.options.only] if self.options.only else list(SIDES)
        layouts: dict[str, str] = {}
        runs: list[dict[str, Any]] = []
        for kind in kinds:
            self._measure(f"prepare/{kind}")
            layouts |= self._layouts(kind)
            for number in range(self.options.pairs):
                for side in SIDES[kind]:
                    runs.append(self._measure(side, layouts.get(side), f"run {number + 1}"))
        summaries = {kind: summary.summarise(runs, kind) for kind in kinds}
        profile = None
        if "sft" in kinds:
            profile = self._measure("sft/profile")
        shown = summary.tables(summaries, layouts)
        print(f"\n{shown}\n")
        name = "train-quick" if self.options.quick else "train"
        picture.draw(summaries, RESULTS / f"{name}.png")
        self._write(name, summary=summaries, layouts=layouts, runs=runs, sweep=self._swept(), profile=profile)
        if not self.options.quick and not self.options.only:
            self._into_docs(shown)
        if profile is not None:
            self._show_profile(profile)
        self.partial.unlink(missing_ok=True)

    def profile(self) -> None:
        """Where the time of our steps goes."""
        self._measure("prepare/sft")
        profile = self._measure("sft/profile")
        self._show_profile(profile)
        self._write("profile", profile=profile)

    def _layouts(self, kind: str) -> dict[str, str]:
        """TRL's fastest layout for each of its tuned sides, from one run of each."""
        if kind == "sft":
            names = [self.options.layout] if self.options.layout else list(SFT_LAYOUTS)
            probe, tuned = "sft/trl tuned", ["sft/trl tuned"]
        else:
            names = list(DPO_LAYOUTS) if self.settings.pairs_a_step > 1 else ["padded"]
            probe, tuned = "dpo/trl cold", ["dpo/trl cold", "dpo/trl precomputed"]
        if len(names) == 1:
            return dict.fromkeys(tuned, names[0])
        speeds = {name: self._measure(probe, name, "sweep")["per_second"] for name in names}
        return dict.fromkeys(tuned, max(names, key=lambda name: speeds[name]))

    def _measure(self, side: str, layout: str | None = None, label: str = "") -> dict[str, Any]:
        key = "|".join((label, side, layout or ""))
        if key in self.done and not side.startswith("prepare"):
            return self.done[key]
        command = [sys.executable, "-m", "benchmarks.side", str(self.folder / "settings.json"), side]
        done = subprocess.run(
            [*command, layout] if layout else command,
            cwd=ROOT,
            capture_output=True,
            text=True,
            env={**os.environ, **self._environment()},
        )
        if done.returncode != 0:
            raise SystemExit(f"{side} failed:\n{done.stderr[-3000:]}")
        figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        print(f"{label:6} {side}: {_brief(figures)}", flush=True)
        self.done[key] = figures
        content = {"signature": self._signature(), "machine": self.machine, "done": self.done}
        manifest.write_json(self.partial, content)
        return figures

    def _environment(self) -> dict[str, str]:
        """The same threads for all, and no network."""
        return {
            "OMP_NUM_THREADS": str(self.settings.threads),
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "TQDM_DISABLE": "1",
        }

    def _signature(self) -> dict[str, Any]:
        """What has to agree for a run to be gone on with."""
        settings = {k: v for k, v in vars(self.settings).items() if k != "folder"}
        return {**settings, "commit": machine.facts(ROOT)["commit"]}

    def _swept(self) -> list[dict[str, Any]]:
        return [figures for key, figures in self.done.items() if key.startswith("sweep|")]

    def _write(self, name: str, **content: Any) -> None:
        known = {k: v for k, v in vars(self.settings).items() if k != "folder"}
        settings = machine.portable(known, ROOT)
        manifest.write_json(
            RESULTS / f"{name}.json", {"machine": self.machine, "settings": settings, **content}
        )

    def _into_docs(self, tables: str) -> None:
        picture_link = os.path.relpath(RESULTS / "train.png", Path(self.options.docs).parent)
        text = f"{_circumstances(self.machine, self.settings, self.options.pairs)}\n\n{tables}"
        docs_page.update(Path(self.options.docs), BLOCK, f"{text}\n\n![speed and memory]({picture_link})")

    def _show_profile(self, profile: dict[str, Any]) -> None:
        table = summary.profile_table(profile)
        print(f"\n{table}")
        if not self.options.quick:
            commit, date = self.machine["commit"], self.machine["date"][:10]
            docs_page.update(Path(self.options.docs), PROFILE_BLOCK, f"Commit {commit}, {date}.\n\n{table}")


def _circumstances(found: dict[str, Any], settings: Settings, pairs: int) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    return (
        f"{found['date'][:10]}, commit {found['commit']}; {found['processor']}, {found['cpus']} CPUs, "
        f"{found['memory_gib']:g} GiB, load {found['load_at_start']} at the start; {versions}. "
        f"{pairs} runs of each side in turn, {settings.steps} step(s) each; {settings.threads} threads; "
        f"SFT {settings.rows} rows a step, DPO {settings.pairs_a_step} pairs a step at "
        f"{settings.pair_length} tokens."
    )


def _values(flags: Sequence[str]) -> dict[str, Any]:
    pairs = [flag.partition("=") for flag in flags]
    if any(not sign for _, sign, _ in pairs):
        raise SystemExit("--set takes KEY=VALUE")
    return {key: yaml.safe_load(value) for key, _, value in pairs}


def _brief(figures: dict[str, Any]) -> str:
    if "per_second" in figures:
        layout = f" ({figures['layout']})" if figures.get("layout") else ""
        return f"{figures['per_second']:.3f} a second, peak {figures['peak_mib']} MiB{layout}"
    if "flops_per_second" in figures:
        return f"{figures['flops_per_second'] / 1e9:.0f} GFLOP/s"
    return ", ".join(f"{key} {value}" for key, value in figures.items() if key in ("tokens", "seconds"))


if __name__ == "__main__":
    sys.exit(main())
