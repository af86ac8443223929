"""Answers rated by a judge, several times each, and the mean taken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, pvariance
from typing import NamedTuple

from autoalign.algorithms._drawing import Drawn, Text
from autoalign.algorithms._job import Job, Prompt
from autoalign.algorithms._judge import Verdict, ask_judge, compare
from autoalign.algorithms._made import Dropped
from autoalign.errors import ConfigError
from autoalign.judging.forms import POINTS
from autoalign.judging.prompts import JudgePrompt
from autoalign.records import Message
from autoalign.synthesis import Ask


@dataclass(frozen=True)
class Rating:
    """How answers are rated: by whom, how often, by which rubric (0 to 5 points)."""

    model: str = "judge"
    times: int = 1
    rubric: str = "additive"
    temperature: float = 0.0
    top_p: float | None = None


class Rated(NamedTuple):
    """An answer, what the judge was asked, and the judgments that could be read."""

    text: Text
    question: str
    judgments: list[Verdict[int]]

    @property
    def points(self) -> list[int]:
        """The judgments' points."""
        return [each.value for each in self.judgments if each.value is not None]

    @property
    def mean(self) -> float:
        """Of the points."""
        return fmean(self.points)

    @property
    def variance(self) -> float:
        """How far the judgments are apart."""
        return pvariance(self.points)


class RatedAnswers(NamedTuple):
    """The rated answers to one prompt, and what was left out: answers, and unread judgments."""

    prompt: Prompt
    rated: list[Rated]
    dropped: list[Dropped]


def rate(job: Job, prompts: Sequence[Prompt], drawn: Sequence[Drawn], how: Rating) -> Iterator[RatedAnswers]:
    """Every answer rated `how.times` times; one without a readable judgment is left out.

    A judgment that can't be read beside others of the same answer is left out under its own key.
    """
    rubric = JudgePrompt(how.rubric)
    questions = {
        text.key: rubric.fill(conversation=prompt.shown(), answer=text.text, reference=prompt.judge_reference)
        for prompt, answers in zip(prompts, drawn, strict=True)
        for text in answers.texts
    }
    asks = [
        Ask(f"{key}/rating-{index}", (Message("user", asked),), how.model, how.temperature, how.top_p)
        for key, asked in questions.items()
        for index in range(how.times)
    ]
    verdicts = iter(ask_judge(job, asks, POINTS))
    for prompt, answers in zip(prompts, drawn, strict=True):
        found = RatedAnswers(prompt, [], list(answers.dropped))
        for text in answers.texts:
            said = [next(verdicts) for _ in range(how.times)]
            readable = [verdict for verdict in said if verdict.value is not None]
            if readable:
                found.rated.append(Rated(text, said[0].asked, readable))
                found.dropped.extend(
                    Dropped(f"{text.key}/rating-{index}", prompt.id, verdict.problem)
                    for index, verdict in enumerate(said)
                    if verdict.value is None
                )
            else:
                found.dropped.append(Dropped(text.key, prompt.id, said[-1].problem))
        yield found


COMPARISONS = ("choice", "points")


def require_comparison(name: str) -> None:
    """Raises ConfigError where `name` is no way to compare."""
    if name not in COMPARISONS:
        raise ConfigError(f"compare_by is '{name}'; expected {' or '.join(COMPARISONS)}")


def compare_by(
    how: str, job: Job, matches: Sequence[tuple[str, Prompt, str, str]], model: str, prompt: str = "pairwise"
) -> list[Verdict[float]]:
    """Which of two answers a judge prefers: 1 the first, 0 the second, 0.5 neither.

    Args:
        how: "choice" shows the judge both, in both orders; "points" has each rated alone from 0 to 5,
            for judges that choose by the place alone.
    """
    if how == "choice":
        return compare(job, matches, model, prompt)
    rubric = JudgePrompt("additive")
    asks = [
        Ask(f"{key}/{side}", (Message("user", _rating_of(rubric, asked, answer)),), model, 0.0)
        for key, asked, *answers in matches
        for side, answer in zip("ab", answers, strict=True)
    ]
    said = ask_judge(job, asks, POINTS)
    found: list[Verdict[float]] = []
    for one, other in zip(said[::2], said[1::2], strict=True):
        if one.value is None or other.value is None:
            found.append(Verdict(None, problem=one.problem or other.problem))
        else:
            won = (1 + (one.value > other.value) - (one.value < other.value)) / 2
            found.append(Verdict(won, f"{one.text}\n\n{other.text}"))
    return found


def _rating_of(rubric: JudgePrompt, asked: Prompt, answer: str) -> str:
    return rubric.fill(conversation=asked.shown(), answer=answer, reference=asked.judge_reference)
