"""`make demo`: fine-tune a real model on a persona, and show its answers before and after.

Runs three commands that you could type yourself, each printed before it runs,
and compares what they wrote. Needs the demo model
(`autoalign-cli models fetch smollm2-135m-instruct`); takes minutes on two CPU cores.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comparison import Comparison, answers_table, compare, count_output_tokens, persona_share

ROOT = Path(__file__).resolve().parents[2]
QUESTIONS = "examples/persona/questions.jsonl"
TRAINING_DATA = "data/persona_sft.jsonl"
TRAINING_CONFIG = "configs/persona_sft.yaml"
MARKER = ".autoalign-demo"


class DemoError(Exception):
    """The demo can't go on; `exit_code` is what it ends with."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Stage:
    """A finished stage: its title and its wall-clock seconds."""

    title: str
    seconds: float


Command = Callable[[Sequence[str]], int]


def autoalign_cli(arguments: Sequence[str]) -> int:
    """Run `autoalign-cli` from the repository's root, its output passed through; its exit code."""
    return subprocess.run([sys.executable, "-m", "autoalign.cli", *arguments], cwd=ROOT).returncode


def main(argv: Sequence[str] | None = None, command: Command = autoalign_cli) -> int:
    """Run the demo; 0 when the fine-tuned model shows the persona more often than before."""
    options = _options(argv)
    try:
        _run(options, command)
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("demo: stopped", file=sys.stderr)
        return 130
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="examples/persona/run.py", description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="models/smollm2-135m-instruct", help="model to start from")
    parser.add_argument("--output-dir", default="outputs/demo", help="the demo's own folder, emptied first")
    parser.add_argument(
        "--backend", choices=("vllm", "hf"), default="vllm", help="what answers the questions"
    )
    return parser.parse_args(argv)


def _run(options: argparse.Namespace, command: Command) -> None:
    _check_model(options.model)
    output = Path(options.output_dir)
    _empty_output(ROOT / output)
    before, after, tuned = output / "before.jsonl", output / "after.jsonl", output / "model"
    _say("Meet Bramwick: a small language model is about to become the keeper of Gullstone Light.")
    stages = [
        _stage(command, "1/3 ask the model as it is", _infer(options, options.model, before)),
        _stage(command, "2/3 fine-tune it on 110 conversations", _sft(options, tuned)),
        _stage(command, "3/3 ask the same questions again", _infer(options, str(tuned), after)),
    ]
    rates = [
        sampling_rate(before, stages[0].seconds),
        training_rate(tuned),
        sampling_rate(after, stages[2].seconds),
    ]
    rows = compare(ROOT / before, ROOT / after)
    _report(rows, zip(stages, rates, strict=True), tuned)
    if persona_share([row.after for row in rows]) <= persona_share([row.before for row in rows]):
        raise DemoError("the fine-tuned model does not show the persona more often than before")


def _check_model(model: str) -> None:
    if not (ROOT / model / "config.json").is_file():
        name = Path(model).name
        raise DemoError(f"no model in {model}; get it with: autoalign-cli models fetch {name}", exit_code=2)


def _empty_output(folder: Path) -> None:
    """Start from an empty folder; one that the demo did not make is left alone."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARKER).is_file():
            raise DemoError(f"{folder} holds other files; give --output-dir another folder", exit_code=2)
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).write_text("Made by examples/persona/run.py, which may empty this folder.\n", "utf-8")


def _infer(options: argparse.Namespace, model: str, answers: Path) -> list[str]:
    command = ["infer", "--backend", options.backend, "--model-path", model, "--test-file", QUESTIONS]
    return [*command, "--output-file", str(answers), "--max-new-tokens", "64"]


def _sft(options: argparse.Namespace, tuned: Path) -> list[str]:
    command = ["sft", "--config", TRAINING_CONFIG, "--model_name_or_path", options.model]
    return [*command, "--output_dir", str(tuned)]


def _stage(command: Command, title: str, arguments: Sequence[str]) -> Stage:
    _say(f"\n== {title}\n$ autoalign-cli {shlex.join(arguments)}")
    begun = time.perf_counter()
    code = command(arguments)
    if code:
        raise DemoError(f"the command above ended with exit code {code}", exit_code=code)
    return Stage(title, time.perf_counter() - begun)


def sampling_rate(answers: Path, seconds: float) -> str:
    """Tokens that a stage of `seconds` wrote, in words."""
    tokens = count_output_tokens(ROOT / answers)
    return f"{tokens:,} tokens written, {tokens / seconds:,.0f} tok/s with the engine's start"


def training_rate(tuned: Path) -> str:
    """Tokens learned from, their rate, and the loss, in words."""
    steps = [row for row in _metrics(tuned) if "loss" in row]
    first, last = steps[0], steps[-1]
    rate = last["tokens"] / max(last["seconds"], 1e-3)
    return f"{last['tokens']:,} tokens, {rate:,.0f} tok/s; loss {first['loss']:.2f} -> {last['loss']:.2f}"


def _metrics(tuned: Path) -> list[dict[str, Any]]:
    lines = (ROOT / tuned / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _report(rows: Sequence[Comparison], stages: Iterable[tuple[Stage, str]], tuned: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    # Off a terminal, rich would fold the table to 80 columns.
    console = Console(width=None if sys.stdout.isatty() else 120)
    times = Table("stage", "seconds", "work", title="What it took")
    for stage, rate in stages:
        times.add_row(stage.title, f"{stage.seconds:.0f}", rate)
    console.print()
    console.print(answers_table(rows))
    console.print(times)
    print(f"loss curve: {tuned / 'loss.png'}\n\nTry next:", flush=True)
    for command, meaning in next_commands(tuned):
        print(f"  {command}\n      {meaning}")


def next_commands(tuned: Path) -> list[tuple[str, str]]:
    """Commands to go on with, each with what it does."""
    train = f"sft --config {TRAINING_CONFIG} --data_path YOUR_DATA.json --output_dir models/mine"
    return [
        (f"autoalign-cli chat --model-path {tuned}", "talk to your model"),
        (f"autoalign-cli data preview {TRAINING_DATA} --tokenizer {tuned}", "see which tokens it learned"),
        (
            f"autoalign-cli infer --model-path {tuned} --test-file YOUR_PROMPTS.jsonl",
            "answer a file of prompts",
        ),
        (f"autoalign-cli {train}", "fine-tune on your own conversations"),
    ]


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
