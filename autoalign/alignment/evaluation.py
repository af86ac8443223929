"""A round's model against the one before it: answers to held-out prompts, checked or judged, and guards."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoalign import manifest
from autoalign.algorithms import Ask, Job, Prompt, PromptSet, Reply, Verify
from autoalign.algorithms._judge import ask_judge
from autoalign.alignment.machinery import Machinery
from autoalign.errors import JobFailed
from autoalign.evaluation.significance import paired_p_value
from autoalign.intervals import Interval, paired_bootstrap, wilson
from autoalign.judging.forms import PREFERENCE
from autoalign.judging.prompts import JudgePrompt
from autoalign.judging.verdicts import agreed
from autoalign.records import Message

ANSWERS, TEXTS = "answers.json", "texts.jsonl"
PAIRWISE = "pairwise"  # the judge prompt of a comparison
_MOST_FAILED = 0.1  # of the held-out prompts: some may be too long for the model


def answer(
    machinery: Machinery, model: str, sets: Mapping[str, Sequence[Prompt]], folder: Path
) -> dict[str, Any]:
    """The model's likeliest answers to every set of prompts, into `answers.json`: set, then prompt id.

    Raises:
        JobFailed: the engine failed on too many to call it the prompts' fault.
    """
    found: dict[str, dict[str, str]] = {}
    failed = 0
    for name, prompts in sets.items():
        asks = [Ask(f"{name}/{prompt.id}", prompt.messages, temperature=0.0) for prompt in prompts]
        replies = machinery.sample({"policy": model}, asks, folder / TEXTS) if asks else []
        failed += sum(reply.finish_reason == "error" for reply in replies)
        found[name] = {prompt.id: reply.text for prompt, reply in zip(prompts, replies, strict=True)}
    figures = {name: len(texts) for name, texts in found.items()}
    asked = sum(figures.values())
    if failed > _MOST_FAILED * asked:
        raise JobFailed(f"{failed} of {asked} held-out prompts got no answer: the engine failed on {model}")
    manifest.write_json(folder / ANSWERS, found)
    return {**figures, "failed": failed} if failed else figures


def read_answers(folder: Path) -> dict[str, dict[str, str]]:
    """What `answer` wrote."""
    found: dict[str, dict[str, str]] = json.loads((folder / ANSWERS).read_text(encoding="utf-8"))
    return found


@dataclass(frozen=True)
class Compared:
    """Wins of the new model, one a prompt (1, 0.5 or 0), and the judge's habits.

    Attributes:
        asked: comparisons of answers that differ.
        unread: those of them that the judge gave no readable verdict on.
        first: of all verdicts that are no tie, the share that prefers what stands first; 0.5 is fair.
        agreeing: share of comparisons whose two orders agree.
        longer: of comparisons with a winner, the share where it is the longer one.
    """

    wins: list[float]
    asked: int
    unread: int
    first: float | None
    agreeing: float | None
    longer: float | None


def accuracies(
    prompts: Sequence[Prompt], before: Mapping[str, str], after: Mapping[str, str], verify: Verify
) -> tuple[list[float], list[float]]:
    """1 or 0 for each prompt whose two answers can be checked, of both models in the same order."""
    found = [(verify(prompt, before[prompt.id]), verify(prompt, after[prompt.id])) for prompt in prompts]
    known = [(old, new) for old, new in found if old is not None and new is not None]
    return [float(old) for old, _ in known], [float(new) for _, new in known]


def gain(before: Sequence[float], after: Sequence[float], seed: int) -> Interval:
    """How much better `after` is, item by item, with its interval.

    Raises:
        JobFailed: nothing could be checked.
    """
    if not before:
        raise JobFailed(
            "no held-out answer could be checked: the prompts hold no reference that fits 'verifier'"
        )
    return paired_bootstrap(before, after, seed=seed)


def p_value(before: Sequence[float], after: Sequence[float], seed: int) -> float:
    """Of "both are as good", two-sided, by the exact test of `eval compare`."""
    differences = [new - old for old, new in zip(before, after, strict=True)]
    return round(paired_p_value(differences, seed), 4)


def share(values: Sequence[float]) -> dict[str, float]:
    """The mean of figures from 0 to 1, with Wilson's interval."""
    return as_dict(wilson(sum(values), len(values)))


def as_dict(interval: Interval) -> dict[str, float]:
    """JSON values."""
    return {name: round(value, 4) for name, value in interval._asdict().items()}


@dataclass(frozen=True)
class Judging:
    """Who compares, and how.

    Attributes:
        models: role to model folder.
        store: file that the judge's texts are kept in.
        principles: what the answers are to follow; the judge is told.
    """

    machinery: Machinery
    models: Mapping[str, str]
    store: Path
    tries: int
    principles: Sequence[str] = ()
    guided: bool = False

    def compare(
        self,
        role: str,
        prompts: Sequence[Prompt],
        before: Mapping[str, str],
        after: Mapping[str, str],
        question: str = PAIRWISE,
    ) -> Compared:
        """Both models' answers in both orders; those that are the same are ties and not asked about.

        Args:
            question: a judge prompt's name or file, whose verdicts read as those of `pairwise`.
        """
        differing = [prompt for prompt in prompts if before[prompt.id] != after[prompt.id]]
        text = JudgePrompt(question)
        asks = [
            self._ask(role, text, prompt, order, before[prompt.id], after[prompt.id])
            for prompt in differing
            for order in ("new-first", "new-second")
        ]
        job = Job((), PromptSet({}), self._generate, tries=self.tries, judge_guided=self.guided)
        said = [verdict.value for verdict in ask_judge(job, asks, PREFERENCE)]
        wins, unread, longer = [0.5] * (len(prompts) - len(differing)), 0, []
        both = list(zip(said[::2], said[1::2], strict=True))
        for prompt, (one, swapped) in zip(differing, both, strict=True):
            if one is None or swapped is None:
                unread += 1
                continue
            won = agreed(one, swapped)
            wins.append(won)
            if won != 0.5:
                lengths = len(after[prompt.id]), len(before[prompt.id])
                longer.append(float(lengths[0] > lengths[1] if won else lengths[1] > lengths[0]))
        sided = [verdict for verdict in said if verdict in ("A", "B")]
        read = [pair for pair in both if None not in pair]
        return Compared(
            wins,
            len(differing),
            unread,
            _mean([float(verdict == "A") for verdict in sided]),
            _mean([float(set(pair) in ({"A", "B"}, {"tie"})) for pair in read]),
            _mean(longer),
        )

    def _generate(self, asks: Sequence[Ask]) -> Sequence[Reply]:
        return self.machinery.sample(self.models, asks, self.store)

    def _ask(self, role: str, text: JudgePrompt, prompt: Prompt, order: str, before: str, after: str) -> Ask:
        first, second = (after, before) if order == "new-first" else (before, after)
        shown = prompt.shown()
        if self.principles:
            which = "this rule" if len(self.principles) == 1 else "these rules"
            shown = f"{shown}\n\n(The assistant is to keep to {which}: {' '.join(self.principles)})"
        asked = text.fill(
            conversation=shown, answer_a=first, answer_b=second, reference=prompt.judge_reference
        )
        return Ask(f"{role}/{prompt.id}/{order}", (Message("user", asked),), role, 0.0)


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 4) if values else None
