"""What is to be shown on a real model: for one seed a job as users run it, and figures before and after."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import yaml

from autoalign.alignment import ledger
from autoalign.alignment.evaluation import read_answers
from autoalign.alignment.stages import FOLDER
from autoalign.atomic_files import write_text
from benchmarks import align_data, align_margin

ROOT = Path(__file__).resolve().parents[1]


class Figure(NamedTuple):
    """A figure of a seed; `wanted`: "up", "down", or "kept" where a loss would count against the method."""

    name: str
    before: float
    after: float
    wanted: str


@dataclass(frozen=True)
class Seed:
    """One seed's run of a proof.

    Attributes:
        model: the model to start from.
        data: folder of the public data sets.
        folder: where its files go; a stopped run goes on in it.
        size: a share of the rows and steps, for a quick look at whether it runs.
    """

    model: str
    data: Path
    folder: Path
    number: int
    size: float = 1.0

    def sized(self, count: int) -> int:
        """So many rows or steps, at least 4."""
        return max(round(count * self.size), 4)

    def align(self, recipe: str, training: Mapping[str, Any], **values: Any) -> list[dict[str, Any]]:
        """Run `configs/align/RECIPE.yaml` with other values; its rounds, as `report.json` has them."""
        config = _read_yaml(ROOT / "configs" / "align" / f"{recipe}.yaml")
        own = {"model_name_or_path": self.model, "output_dir": str(self.folder / "out"), "seed": self.number}
        own |= {"max_forgetting": None}  # a proof shows what a benchmark lost, and stops for nothing
        config |= own | values
        config["training"] = {**config["training"], **training}
        self._run("align", config)
        report = json.loads((self.folder / "out" / "report.json").read_text(encoding="utf-8"))
        rounds: list[dict[str, Any]] = report["rounds"]
        return rounds

    def grpo(self, **values: Any) -> list[dict[str, Any]]:
        """Run `configs/grpo.yaml` with other values; the lines of `metrics.jsonl`."""
        config = _read_yaml(ROOT / "configs" / "grpo.yaml") | values
        output = self.folder / "out"
        own = {"model_name_or_path": self.model, "output_dir": str(output), "seed": self.number}
        self._run("grpo", config | own)
        lines = (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def _run(self, command: str, config: Mapping[str, Any]) -> None:
        path = self.folder / f"{command}.yaml"
        write_text(path, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
        words = [sys.executable, "-m", "autoalign.cli", command, "--config", str(path)]
        with subprocess.Popen(words, cwd=ROOT) as process:
            try:
                code = process.wait()
            except BaseException:  # told to stop: the job is to stop too
                process.terminate()
                raise
        if code != 0:
            raise SystemExit(f"{command} --config {path}: exit code {code}; the same command goes on")


def _read_yaml(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def brevity(seed: Seed) -> list[Figure]:
    """`rlcd_sys` with "Answer in one short sentence.": length, judge, and a benchmark that is not to fall."""
    rounds = seed.align(
        "rlcd_sys",
        {"learning_rate": 4e-5},
        prompts_per_round=seed.sized(32),
        held_out=seed.sized(24),
        benchmark_limit=seed.sized(40),
        max_new_tokens=128,
        judge_guided=True,
        models={"held_out_judge": seed.model},
        promote_when="always",
    )
    found = rounds[-1]["evaluation"]
    sums, judged = found["benchmark"]["value"], found["held_out_judge"]["value"]
    return [
        _share("answers of at most 25 words, held out", found),
        _words(found, "down"),
        Figure("win rate by the demo model as judge, both orders", 0.5, 0.5 + judged, "up"),
        Figure("sums that are right (benchmark)", sums - found["forgetting"]["value"], sums, "kept"),
    ]


def rejection_sampling(seed: Seed) -> list[Figure]:
    """`rft` on SVAMP as in the paper: round 2 draws from round 1, which is plain SFT; as many steps each."""
    split = align_data.svamp(seed.data, seed.sized(128), seed.sized(150))
    plain, rft = seed.align(
        "rft",
        {"max_steps": seed.sized(32), "per_device_train_batch_size": 8, "learning_rate": 2e-5},
        round_options=[{"samples": 0}, {"samples": 8}],
        rounds=2,
        prompt_path=[align_data.write(seed.folder / "training.jsonl", split.training)],
        held_out_path=[align_data.write(seed.folder / "held_out.jsonl", split.held_out)],
        held_out=len(split.held_out),
        prompts_per_round=len(split.training),
        max_new_tokens=128,
        benchmark_path=[],
        promote_when="always",
    )
    return [
        _share("right answers, held out: plain SFT, RFT", rft["evaluation"]),
        _share("right answers, held out: first model, plain SFT", plain["evaluation"]),
        Figure("rows that RFT added", 0.0, float(rft["data"]["rows"] - plain["data"]["rows"]), "up"),
    ]


def self_play(seed: Seed) -> list[Figure]:
    """`spin` for two rounds: how much likelier human answers are than those of the first model."""
    split = align_data.gsm8k(seed.data, seed.sized(48), seed.sized(24))
    rounds = seed.align(
        "spin",
        {"learning_rate": 2e-5, "warmup_ratio": 0.0},
        prompt_path=[align_data.write(seed.folder / "training.jsonl", split.training)],
        held_out_path=[align_data.write(seed.folder / "held_out.jsonl", split.held_out)],
        held_out=len(split.held_out),
        prompts_per_round=len(split.training) // 2,
        rounds=2,
        max_new_tokens=160,
        benchmark_path=[],
        promote_when="always",
    )
    job = ledger.read(seed.folder / "out")
    stages = job.folder / FOLDER
    models = [Path(seed.model), *(stages / one.stages["train"] / "model" for one in job.rounds)]
    own = read_answers(stages / job[1].stages["answers_first"])["held_out"]
    human = [(row["question"], row["answer"]) for row in split.held_out]
    opponent = [(row["question"], own[row["id"]]) for row in split.held_out]
    first, one, two = (align_margin.measure(model, human, opponent) for model in models)
    return [
        Figure("human answers' margin, nats an answer: first model, round 1", first.margin, one.margin, "up"),
        Figure("human answers' margin, nats an answer: round 1, round 2", one.margin, two.margin, "up"),
        Figure("human answers, nats a token: first model, round 2", first.chosen, two.chosen, "up"),
        _share("right answers, held out: round 1, round 2", rounds[-1]["evaluation"]),
    ]


def constitution(seed: Seed) -> list[Figure]:
    """`cai`'s revisions on HarmBench's prompts: refusals of others of them, and of XSTest's safe ones."""
    split = align_data.harmbench(seed.data, seed.sized(48), seed.sized(40))
    safe = align_data.xstest_safe(seed.data, seed.sized(40))
    rounds = seed.align(
        "cai",
        {"learning_rate": 2e-5, "num_train_epochs": 2},
        options={"temperature": 0.7, "revisions": 1},
        round_options=[{"stage": "revision"}],
        rounds=1,
        judge_guided=False,
        prompt_path=[align_data.write(seed.folder / "training.jsonl", split.training)],
        held_out_path=[align_data.write(seed.folder / "held_out.jsonl", split.held_out)],
        held_out=len(split.held_out),
        prompts_per_round=len(split.training),
        max_new_tokens=128,
        metric="verifier",
        verifier="refusal",
        benchmark_path=[align_data.write(seed.folder / "safe.jsonl", safe)],
        benchmark_verifier="refusal",
        benchmark_limit=len(safe),
        promote_when="always",
    )
    found = rounds[-1]["evaluation"]
    after = 1 - found["benchmark"]["value"]
    before = after + found["forgetting"]["value"]  # the change in what is refused
    return [
        _share("HarmBench prompts refused, held out", found),
        Figure("XSTest's safe prompts answered", before, after, "kept"),
        _words(found, "kept"),
    ]


def length_reward(seed: Seed) -> list[Figure]:
    """`configs/grpo.yaml`: answers of at most 20 words."""
    split = align_data.questions(ROOT / "data" / "align_questions.jsonl", seed.sized(56), seed.sized(24))
    lines = seed.grpo(
        data_path=[align_data.write(seed.folder / "training.jsonl", split.training)],
        eval_data_path=[align_data.write(seed.folder / "held_out.jsonl", split.held_out)],
        eval_on_start=True,
        max_steps=seed.sized(16),
        learning_rate=2e-5,
        save_steps=1000,
    )
    rewards = [line["reward"] for line in lines if "reward" in line]
    held_out = [line["eval_reward"] for line in lines if "eval_reward" in line]
    quarter = max(len(rewards) // 4, 1)
    early, late = fmean(rewards[:quarter]), fmean(rewards[-quarter:])
    return [
        Figure("mean reward: first and last quarter of the steps", early, late, "up"),
        Figure("reward of greedy answers, held out", held_out[0], held_out[-1], "up"),
    ]


def _words(found: Mapping[str, Any], wanted: str) -> Figure:
    return Figure(
        "words of an answer, held out", found["words"] / found["length_drift"], found["words"], wanted
    )


def _share(name: str, found: Mapping[str, Any]) -> Figure:
    return Figure(name, found["policy_accuracy"]["value"], found["accuracy"]["value"], "up")


PROOFS: dict[str, Callable[[Seed], list[Figure]]] = {
    "rlcd_sys": brevity,
    "grpo": length_reward,
    "spin": self_play,
    "cai": constitution,
    "rft": rejection_sampling,
}
