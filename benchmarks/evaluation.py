"""What `eval` takes beside `infer` on the same prompts: `python -m benchmarks.evaluation --limit 64`.

Rounds in turns: GSM8K's questions answered by `infer` and then scored, and the same through `eval`, both on a
vLLM engine of their own. The start of each is told apart, as it is the same however many questions there are.
The aim is 1.15 x.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from autoalign.config.evaluate import EvalConfig
from autoalign.evaluation.ask import Answered
from autoalign.evaluation.benchmarks import gsm8k
from autoalign.evaluation.tools import Tools

AIM = 1.15
_INFER = re.compile(r"seconds\s*│?\s*([\d.]+) \(([\d.]+) to start\)")
_EVAL = re.compile(r"done in ([\d.]+) s(?: \(([\d.]+) s of them to start\))?")


class Took(NamedTuple):
    """Seconds in all, and those of them that passed before the first question."""

    seconds: float
    start: float

    @property
    def work(self) -> float:
        """The rest."""
        return self.seconds - self.start


def main() -> None:
    """Print a line for each round, and the median ratio."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="models/smollm2-135m-instruct")
    parser.add_argument("--data_root", default="data", help="folder with gsm8k/test.jsonl")
    parser.add_argument("--limit", type=int, default=64, help="questions")
    parser.add_argument("--max_new_tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(given.rounds):
            place = Path(folder) / str(number)
            place.mkdir()
            sampled, scored = sample_and_score(given, place)
            evaluated = evaluate(given, place)
            ratios.append(evaluated.work / (sampled.work + scored))
            ours = f"eval {evaluated.work:.1f} s beyond {evaluated.start:.1f} s to start"
            theirs = f"infer {sampled.work:.1f} s beyond {sampled.start:.1f} s, and scoring {scored:.1f} s"
            print(f"round {number + 1}: {ours}, {theirs}: {ratios[-1]:.2f} x", flush=True)
    print(told(ratios))


def told(ratios: Sequence[float]) -> str:
    """The median, and whether it is what was aimed at."""
    median = statistics.median(ratios)
    return f"median {median:.2f} x, aim {AIM} x: {'met' if median <= AIM else 'missed'}"


def sample_and_score(given: argparse.Namespace, folder: Path) -> tuple[Took, float]:
    """`infer`, and the seconds that scoring its answers takes."""
    asks = list(islice(gsm8k.read(Path(given.data_root) / gsm8k.FILE), given.limit))
    prompts, answers = folder / "prompts.jsonl", folder / "answers.jsonl"
    rows = [{"messages": [{"role": "user", "content": ask.text}]} for ask in asks]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    words = ["--model_path", given.model, "--test_file", str(prompts), "--output_file", str(answers)]
    words += ["--temperature", "0", "--max_new_tokens", str(given.max_new_tokens), "--backend", "vllm"]
    sampled = took(_run("infer", *words), _INFER)
    texts = [json.loads(line)["text"] for line in answers.read_text(encoding="utf-8").splitlines()]
    answered = [Answered(ask, ((text,),)) for ask, text in zip(asks, texts, strict=True)]
    began = time.monotonic()
    gsm8k.score(answered, Tools(EvalConfig.build({"model_path": given.model}), "gsm8k", folder))
    return sampled, time.monotonic() - began


def evaluate(given: argparse.Namespace, folder: Path) -> Took:
    """The same questions through `eval`."""
    words = ["--model_path", given.model, "--benchmarks", "gsm8k", "--data_root", given.data_root]
    words += ["--limit", str(given.limit), "--max_new_tokens", str(given.max_new_tokens)]
    places = ["--output_dir", str(folder / "outputs"), "--config_dir", str(folder / "configs")]
    return took(_run("eval", *words, *places), _EVAL)


def took(said: str, pattern: re.Pattern[str]) -> Took:
    """The seconds in a command's summary.

    Raises:
        ValueError: there are none.
    """
    found = pattern.search(said)
    if found is None:
        raise ValueError(f"no seconds in what the command said:\n{said}")
    return Took(float(found[1]), float(found[2] or 0))


def _run(*words: str) -> str:
    command = [sys.executable, "-m", "autoalign.cli", *words]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words[:1])} failed:\n{done.stderr[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    main()
