"""A loop without models: a model is a file that says how good it is, training adds to it."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from autoalign.algorithms import Ask, Prompt, Reply
from autoalign.alignment.ledger import Ledger
from autoalign.alignment.loop import Loop
from autoalign.alignment.machinery import Machinery
from autoalign.alignment.prompts import read
from autoalign.alignment.stages import StageStore
from autoalign.config.align import AlignConfig


class Killed(BaseException):
    """The process is gone."""


class Fault:
    """Kills at the n-th call of anything: a model, the trainer, or between stages."""

    def __init__(self, at: int | None = None) -> None:
        self.calls, self._at = 0, at

    def __call__(self) -> None:
        """One more call."""
        self.calls += 1
        if self.calls == self._at:
            raise Killed


class FakeSampler:
    """A model of skill s answers the fraction s of all questions right; which ones follows from the key."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self.asked: list[str] = []

    def __call__(self, models: Mapping[str, str], asks: Sequence[Ask], store: Path) -> list[Reply]:
        self._fault()
        self.asked += [ask.key for ask in asks]
        return [self._reply(skill(models[ask.model]), ask) for ask in asks]

    def release(self) -> None:
        """Nothing is up."""

    def _reply(self, skilled: float, ask: Ask) -> Reply:
        question = ask.messages[-1].content
        if ask.model in ("judge", "held_out_judge"):
            right, wrong = question.find("right by"), question.find("wrong by")
            return Reply("[[tie]]" if min(right, wrong) < 0 else "[[A]]" if right < wrong else "[[B]]")
        luck = random.Random(ask.key).random()
        return Reply(f"right by {ask.key}" if luck < skilled else f"wrong by {ask.key}")


class Principled(FakeSampler):
    """Writes SSO's principles where it is asked for them."""

    def _reply(self, skilled: float, ask: Ask) -> Reply:
        if ask.key.endswith("principles"):
            return Reply("Good principle: right\nBad principle: wrong")
        return super()._reply(skilled, ask)


class FakeTrainer:
    """Adds to the skill by the share of rows whose answer is right."""

    def __init__(self, fault: Fault, step: float = 0.3) -> None:
        self._fault, self._step = fault, step
        self.runs: list[int] = []

    def __call__(self, number: int, model: str, data: list[str], output: Path) -> dict[str, Any]:
        self._fault()
        self.runs.append(number)
        rows = [json.loads(line) for path in data for line in Path(path).read_text().splitlines()]
        good = sum("right" in json.dumps(row.get("chosen") or row["messages"][-1]) for row in rows) / len(
            rows
        )
        output.mkdir(parents=True, exist_ok=True)
        write_model(output, min(1.0, skill(model) + self._step * (2 * good - 1)))
        self._fault()
        return {"loss": 1 - good, "steps": len(rows)}


def write_model(folder: Path, skilled: float) -> Path:
    """A model folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "skill.txt").write_text(f"{skilled:.6f}")
    return folder


def skill(folder: str) -> float:
    """How many questions of 1 it answers right."""
    return float((Path(folder) / "skill.txt").read_text())


def job(
    tmp_path: Path,
    fault: Fault | None = None,
    trainer: Callable[[Fault], Any] = FakeTrainer,
    sampler: Callable[[Fault], Any] = FakeSampler,
    **settings: Any,
) -> Loop:
    """A loop over 60 questions, of which 20 are held out; the first model has skill 0.3."""
    tmp_path.mkdir(exist_ok=True)
    questions = tmp_path / "questions.jsonl"
    rows = [{"id": f"q{n}", "question": f"Question {n}?", "answer": "right"} for n in range(60)]
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    values = {
        "model_name_or_path": "first", "output_dir": str(tmp_path / "out"), "algorithm": "iterative_dpo",
        "options": {"samples": 4}, "prompt_path": str(questions), "held_out": 20, "verifier": "numeric",
        "rounds": 2, **settings,
    }  # fmt: skip
    config = AlignConfig.build(values)
    fault = fault or Fault()
    machinery = Machinery(sampler(fault), trainer(fault), digest, verify, verify, extract=str)
    first = str(write_model(tmp_path / "first", 0.3))

    def note(line: str) -> None:
        fault()

    return Loop(config, read(config), machinery, StageStore(tmp_path / "out" / "stages", note), first)


def verify(prompt: Prompt, text: str) -> bool:
    """By the answer's first word."""
    return text.startswith("right")


def digest(folder: str) -> str:
    """Of the one file that a model is."""
    return hashlib.sha256((Path(folder) / "skill.txt").read_bytes()).hexdigest()


def outputs(folder: Path) -> dict[str, bytes]:
    """Every file of a job but those that hold times."""
    paths = [path for path in folder.rglob("*") if path.is_file() and ".partial" not in str(path)]
    kept = [path for path in paths if path.name not in ("stage.json", ".lock")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in kept}


def verdicts(ledger: Ledger) -> list[bool | None]:
    """Which rounds were promoted."""
    return [entry.promoted for entry in ledger.rounds]
