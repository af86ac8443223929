"""What the scoring of a benchmark may use: rules, judges, a reward model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from autoalign.config.engine import EngineConfig
from autoalign.config.evaluate import EvalConfig
from autoalign.config.score import ScoreConfig
from autoalign.curation.answers import Answer
from autoalign.errors import JobFailed
from autoalign.evaluation.ask import Answered
from autoalign.evaluation.results import Question
from autoalign.judging.forms import Form
from autoalign.records import Conversation
from autoalign.sampling.engines.base import Engine, create_engine
from autoalign.sampling.setup import Setup, has_gpu, prepare_model
from autoalign.scoring import scorer
from autoalign.scoring.judge import Judge, JudgeSettings
from autoalign.scoring.judge import Question as Asked
from autoalign.scoring.scorer import Score, Scorer
from autoalign.scoring.verdict_store import VerdictStore


@dataclass(frozen=True)
class Tools:
    """Of one benchmark.

    Attributes:
        name: the benchmark's.
        verdicts: the folder of stored verdicts.
    """

    config: EvalConfig
    name: str
    verdicts: Path

    def scored_by(
        self,
        name: str,
        answered: Sequence[Answered],
        options: Mapping[str, Any],
        text: Callable[[Answered, str], str] = lambda _, answer: answer,
    ) -> list[Question]:
        """Every answer through a scorer of `autoalign-cli score`; a question has the mean of its runs.

        Args:
            text: makes what is scored of an answer.
        """
        asked = [
            (place, _as_answer(each, run, text(each, each.runs[run][-1])))
            for place, each in enumerate(answered)
            for run in range(len(each.runs))
        ]
        with closing(scorer_of(name, options, self.name)) as judge:
            outcomes = judge.score([answer for _, answer in asked])
        found: list[list[Any]] = [[] for _ in answered]
        for (place, _), outcome in zip(asked, outcomes, strict=True):
            found[place].append(outcome)
        return [_question(each, outcomes) for each, outcomes in zip(answered, found, strict=True)]

    @cached_property
    def judges(self) -> Judges:
        """The judges by name."""
        return Judges(self.config.judge_model, self._start)

    def ask(self, name: str, judge: Judge, asked: Sequence[Asked], read: Callable[[str], Any]) -> list[Any]:
        """What the judge said, read; in order, None where nothing could be read.

        Raises:
            JobFailed: some could not be had, or none be read; those that could are kept for `--reuse`.
        """
        try:
            verdicts: list[Any] = judge.ask(asked, read)
        except JobFailed as error:
            raise JobFailed(f"the judge {name}: {error}") from error
        if judge.lost:
            raise JobFailed(
                f"{judge.lost} of {len(verdicts)} verdicts of the judge {name} can't be had: {judge.problem}"
            )
        if all(verdict is None for verdict in verdicts):
            reason = f": {judge.problem}" if judge.problem else "; what it said is in verdicts/"
            raise JobFailed(f"no verdict of the judge {name} could be had or read{reason}")
        return verdicts

    def verdicts_of(self, name: str, judge: Judge, asked: Sequence[Asked], form: Form[Any]) -> list[Any]:
        """The same, of a verdict that a guided judge gives as JSON (`judge_guided`)."""
        if not self.config.judge_guided:
            return self.ask(name, judge, asked, form.read)
        guide = form.guide
        guided = [
            replace(each, text=f"{each.text}\n\n{guide.ask}", json_schema=guide.schema) for each in asked
        ]
        return self.ask(name, judge, guided, form.read_guided)

    def _start(self, model: str) -> Judge:
        config = self.config
        backend = "openai" if config.judge_base_url is not None else config.judge_backend
        engine = EngineConfig.build(
            {
                "backend": backend,
                "model_path": model,
                "template": None if backend == "openai" else config.judge_template,
                "base_url": config.judge_base_url,
                "api_key_env": config.judge_api_key_env,
                "concurrency": config.judge_concurrency,
                "trust_remote_code": config.trust_remote_code,
            }
        )
        setup = prepare_model(engine)
        options = replace(setup.options, use_gpu=has_gpu())
        params = replace(setup.params, temperature=0.0, max_new_tokens=config.judge_max_new_tokens)
        setup = Setup(options, params, setup.renderer)

        async def start() -> Engine:
            return await create_engine(backend, options)

        settings = JudgeSettings(model, concurrency=config.judge_concurrency, seed=config.seed)
        number = list(config.judge_model).index(model)
        store = VerdictStore(self.verdicts / f"{self.name}.{number}.jsonl")
        return Judge(start, setup, settings, store)


def scorer_of(name: str, options: Mapping[str, Any], data: str) -> Scorer:
    """A scorer of `autoalign-cli score`, for the data of this name.

    Raises:
        InputError: there is none of that name, or its options are wrong.
    """
    keys = {"scorer": [name], "data_path": [data], "output_file": data, **options}
    return scorer.build(scorer.Job(ScoreConfig.build(keys), Path(data)))[name]


@dataclass(frozen=True)
class Judges:
    """Judges that are started when it is their turn, and end with it: a GPU holds one of them, not all."""

    models: Sequence[str]
    start: Callable[[str], Judge]

    def items(self) -> Iterator[tuple[str, Judge]]:
        """Each one's name with the judge, which is up until the next is asked for."""
        for model in self.models:
            with closing(self.start(model)) as judge:
                yield model, judge


def _as_answer(answered: Answered, run: int, text: str) -> Answer:
    messages = answered.conversation(run)
    whole = Conversation(answered.ask.id, (*messages[:-1], replace(messages[-1], content=text)))
    return Answer(whole, 1, answered.ask.row)


def _question(answered: Answered, outcomes: Sequence[Any]) -> Question:
    values = [outcome.value for outcome in outcomes if isinstance(outcome, Score)]
    details = [
        dict(outcome.details) if isinstance(outcome, Score) else {"unscored": outcome.reason}
        for outcome in outcomes
    ]
    reference = answered.ask.row.get("reference")
    return Question(
        answered.ask.id,
        fmean(values) if len(values) == len(outcomes) else None,
        answered.ask.text,
        answered.last,
        None if reference is None else str(reference),
        details[0] if len(details) == 1 else {"runs": details},
    )
