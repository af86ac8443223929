"""A language model judges: a grade from 1 to 10, or answers against each other in both orders.

`pairwise` gives an answer the share of its comparisons that it won, ties counting half. A comparison is won
where the judge prefers the answer in both orders (arXiv:2306.05685).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from autoalign.config.engine import EngineConfig
from autoalign.curation.answers import Answer
from autoalign.errors import ConfigError
from autoalign.judging.prompts import JudgePrompt
from autoalign.judging.verdicts import Preference, agreed, read_grade, read_preference
from autoalign.sampling.engines.base import Engine, create_engine
from autoalign.sampling.setup import Setup, has_gpu, prepare_model
from autoalign.scoring.judge import Judge, JudgeSettings, Question
from autoalign.scoring.scorer import CannotScore, Job, Outcome, Score, Unscorable, reference
from autoalign.scoring.verdict_store import VerdictStore

MODES = ("rubric", "pairwise")


@dataclass(frozen=True)
class Options:
    """What may be set; the names are those of the job's keys.

    Args:
        judge_rounds: pairwise: opponents of each answer; None: all others to the same prompt.
        judge_tries: how often a verdict that can't be read is asked for.
    """

    judge_mode: str = "rubric"
    judge_prompt: str | None = None
    judge_model: str | None = None
    judge_backend: str = "vllm"
    judge_base_url: str | None = None
    judge_api_key_env: str = "OPENAI_API_KEY"
    judge_template: str | None = None
    judge_temperature: float = 0.0
    judge_max_new_tokens: int = 512
    judge_concurrency: int = 32
    judge_tries: int = 3
    judge_rounds: int | None = None
    judge_seed: int = 42
    judge_fresh: bool = False

    def __post_init__(self) -> None:
        if self.judge_mode not in MODES:
            raise ConfigError(f"'judge_mode' is one of {', '.join(MODES)}, not '{self.judge_mode}'")
        if self.judge_model is None:
            raise ConfigError(
                "the judge scorer needs --judge_model, a model folder or an endpoint's model id"
            )


class JudgeScorer:
    """Asks a judge about the answers of a window."""

    def __init__(self, judge: Judge, options: Options) -> None:
        self._judge, self._options = judge, options
        self._prompt = JudgePrompt(options.judge_prompt or options.judge_mode)

    def score(self, answers: Sequence[Answer]) -> list[Outcome]:
        """One outcome for each answer, in order."""
        return self._graded(answers) if self._options.judge_mode == "rubric" else self._compared(answers)

    def close(self) -> None:
        """End the engine."""
        self._judge.close()

    def _graded(self, answers: Sequence[Answer]) -> list[Outcome]:
        questions = [
            Question(
                self._prompt.fill(
                    conversation=_conversation(answer), answer=answer.text, reference=_reference(answer)
                ),
                {"id": answer.conversation.id, "side": answer.side},
            )
            for answer in answers
        ]
        grades = self._judge.ask(questions, read_grade)
        return [self._unread() if grade is None else Score(float(grade)) for grade in grades]

    def _compared(self, answers: Sequence[Answer]) -> list[Outcome]:
        matches = list(self._matches(answers))
        questions = [
            self._question(answers[a], answers[b]) for pair in matches for a, b in (pair, pair[::-1])
        ]
        verdicts = self._judge.ask(questions, _preference)
        points: list[list[float]] = [[] for _ in answers]
        for (left, right), first, swapped in zip(matches, verdicts[::2], verdicts[1::2], strict=True):
            if first is None or swapped is None:
                continue
            won = agreed(_known(first), _known(swapped))
            points[left].append(won)
            points[right].append(1 - won)
        met = {index for pair in matches for index in pair}
        return [
            _share(points[index])
            if points[index]
            else self._unread()
            if index in met
            else Unscorable("no other answer to the same prompt stands beside it")
            for index in range(len(answers))
        ]

    def _matches(self, answers: Sequence[Answer]) -> Iterator[tuple[int, int]]:
        """Places of answers to compare: in a circle, each with the next `judge_rounds`."""
        for group, members in groupby(range(len(answers)), key=lambda index: answers[index].group):
            circle = list(members)
            random.Random(f"{self._options.judge_seed} {group}").shuffle(circle)  # noqa: S311 (no secret)
            size = len(circle)
            rounds = min(self._options.judge_rounds or size, size - 1)
            seen: set[frozenset[int]] = set()
            for step in range(1, rounds + 1):
                for place in range(size):
                    pair = circle[place], circle[(place + step) % size]
                    if frozenset(pair) not in seen:
                        seen.add(frozenset(pair))
                        yield pair

    def _question(self, first: Answer, second: Answer) -> Question:
        text = self._prompt.fill(
            conversation=_conversation(first),
            answer_a=first.text,
            answer_b=second.text,
            reference=_reference(first),
        )
        names = [f"{each.conversation.id}{'/' + each.side if each.side else ''}" for each in (first, second)]
        return Question(text, {"a": names[0], "b": names[1]})

    def _unread(self) -> Unscorable:
        tries = self._options.judge_tries
        return Unscorable(
            f"no verdict could be had or read in {tries} tries; what the judge said is in "
            f"{self._judge.verdicts.name}"
        )


def create(options: Options, job: Job) -> JudgeScorer:
    """Start the judge's engine; verdicts of an earlier run on the same output are used again.

    Raises:
        InputError: the model, the engine or the prompt is wrong.
    """
    JudgePrompt(options.judge_prompt or options.judge_mode)
    setup = _setup(options, job)

    async def start() -> Engine:
        return await create_engine(options.judge_backend, setup.options)

    name = job.output.name.removesuffix(job.output.suffix)
    store = VerdictStore(job.output.with_name(f"{name}.verdicts.jsonl"), options.judge_fresh)
    settings = JudgeSettings(
        setup.options.model, options.judge_tries, options.judge_concurrency, options.judge_seed
    )
    return JudgeScorer(Judge(start, setup, settings, store), options)


def _setup(options: Options, job: Job) -> Setup:
    engine = EngineConfig.build(
        {
            "backend": options.judge_backend,
            "model_path": options.judge_model,
            "template": options.judge_template,
            "base_url": options.judge_base_url,
            "api_key_env": options.judge_api_key_env,
            "concurrency": options.judge_concurrency,
            "trust_remote_code": job.config.trust_remote_code,
        }
    )
    setup = prepare_model(engine)
    params = replace(
        setup.params, temperature=options.judge_temperature, max_new_tokens=options.judge_max_new_tokens
    )
    return setup._replace(params=params, options=replace(setup.options, use_gpu=has_gpu()))


def _share(points: Sequence[float]) -> Score:
    won, lost = points.count(1.0), points.count(0.0)
    counts = {"won": won, "tied": len(points) - won - lost, "lost": lost}
    return Score(sum(points) / len(points), counts)


def _preference(text: str) -> str | None:
    return read_preference(text)


def _known(verdict: str | float) -> Preference:
    return "A" if verdict == "A" else "B" if verdict == "B" else "tie"


def _conversation(answer: Answer) -> str:
    return "\n\n".join(f"{message.role}: {message.content}" for message in answer.prompt)


def _reference(answer: Answer) -> str | None:
    try:
        return str(reference(answer, None))
    except CannotScore:
        return None
