"""What judges say of a model's answers: grades, or comparisons with other answers in both orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import Any, NamedTuple

from autoalign.config.evaluate import EvalConfig
from autoalign.errors import JobFailed
from autoalign.evaluation.ask import Answered
from autoalign.evaluation.results import Question
from autoalign.evaluation.tools import Tools
from autoalign.judging.agreement import cohen_kappa, weighted_kappa
from autoalign.judging.forms import GRADE, PREFERENCE, STRENGTH, Form
from autoalign.judging.prompts import JudgePrompt
from autoalign.judging.verdicts import Preference, agreed
from autoalign.scoring.judge import Question as Asked

_STRONG = 3.0  # games that a much better answer wins (Arena-Hard)


@dataclass(frozen=True)
class Match:
    """One answer beside another one's answer to the same question, whose `difficulty` may be known."""

    id: str
    conversation: str
    answer: str
    other: str
    opponent: str = "baseline"
    reference: str | None = None
    difficulty: float | None = None


class Battle(NamedTuple):
    """A verdict on a match: 1 won, 0.5 tied, 0 lost, and how many games it counts for."""

    points: float
    weight: float


def require_prompt(config: EvalConfig) -> None:
    """Raises ConfigError for a `judge_prompt` that can't be read or asks for what there is not."""
    if config.judge_prompt is not None:
        JudgePrompt(config.judge_prompt).fill(conversation="", answer_a="", answer_b="", reference=None)


def grades(asked: Sequence[Asked], tools: Tools) -> dict[str, list[float | None]]:
    """Each judge's grade, 1 to 10, of each prompt; None where none could be had or read.

    Raises:
        JobFailed: a judge gave none at all.
    """
    return {name: tools.verdicts_of(name, judge, asked, GRADE) for name, judge in tools.judges.items()}


def points(matches: Sequence[Match], tools: Tools) -> dict[str, list[float | None]]:
    """What the answer gets of each match by each judge: 1 won, 0 lost, 0.5 for ties or where order decided.

    Raises:
        JobFailed: a judge gave no verdict that could be read.
    """
    found: dict[str, list[float | None]] = {}
    for name, pairs in _both_orders(matches, tools, "pairwise", PREFERENCE).items():
        found[name] = [pair and agreed(_known(pair[0]), _known(pair[1])) for pair in pairs]
    return found


def battles(matches: Sequence[Match], tools: Tools) -> dict[str, list[tuple[Battle, Battle] | None]]:
    """Arena-Hard's two games of each match by each judge (arXiv:2406.11939): much better counts three times.

    Raises:
        JobFailed: a judge gave no verdict that could be read.
    """
    found: dict[str, list[tuple[Battle, Battle] | None]] = {}
    for name, pairs in _both_orders(matches, tools, "arena_hard", STRENGTH).items():
        found[name] = [pair and (_battle(pair[0]), _battle(-pair[1])) for pair in pairs]
    return found


def share(played: tuple[Battle, Battle] | None) -> float | None:
    """Of a match's games, the share that was won."""
    if played is None:
        return None
    return sum(each.points * each.weight for each in played) / sum(each.weight for each in played)


def _battle(ahead: float) -> Battle:
    return Battle((ahead > 0) + 0.5 * (ahead == 0), _STRONG if abs(ahead) > 1 else 1.0)


def _both_orders(
    matches: Sequence[Match], tools: Tools, prompt: str, form: Form[Any]
) -> dict[str, list[tuple[Any, Any] | None]]:
    """Each judge's verdicts on every match, as it stands and swapped; None where one of them is lacking."""
    template = JudgePrompt(tools.config.judge_prompt or prompt)
    asked = [_asked(match, template, swapped) for match in matches for swapped in (False, True)]
    found: dict[str, list[tuple[Any, Any] | None]] = {}
    for name, judge in tools.judges.items():
        verdicts = tools.verdicts_of(name, judge, asked, form)
        both = zip(verdicts[::2], verdicts[1::2], strict=True)
        found[name] = [None if None in pair else pair for pair in both]
        if not any(found[name]):
            raise JobFailed(f"the judge {name} gave no verdict that could be read in both orders")
    return found


def averaged(by_judge: Mapping[str, Sequence[float | None]]) -> list[float | None]:
    """The judges' mean, where all of them have one."""
    return [
        None if None in each else fmean(value for value in each if value is not None)
        for each in zip(*by_judge.values(), strict=True)
    ]


def agreement(by_judge: Mapping[str, Sequence[float | None]], graded: bool) -> dict[str, float]:
    """Cohen's kappa of every two judges; of grades the quadratically weighted one."""
    told = {}
    for (one, first), (other, second) in combinations(by_judge.items(), 2):
        both = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
        if both:
            left, right = [a for a, _ in both], [b for _, b in both]
            kappa = weighted_kappa(left, right) if graded else cohen_kappa(left, right)
            told[f"{one} and {other}"] = round(kappa, 3)
    return told


def questions_of(
    answered: Sequence[Answered], scores: Sequence[float | None], details: Sequence[Mapping[str, Any]]
) -> tuple[Question, ...]:
    """The benchmark's questions with their scores."""
    return tuple(
        Question(each.ask.id, score, each.ask.text, each.last, details=told)
        for each, score, told in zip(answered, scores, details, strict=True)
    )


def _asked(match: Match, prompt: JudgePrompt, swapped: bool) -> Asked:
    first, second = (match.other, match.answer) if swapped else (match.answer, match.other)
    text = prompt.fill(
        conversation=match.conversation, answer_a=first, answer_b=second, reference=match.reference
    )
    return Asked(text, {"id": match.id, "opponent": match.opponent, "swapped": swapped})


def _known(verdict: str) -> Preference:
    return "A" if verdict == "A" else "B" if verdict == "B" else "tie"
