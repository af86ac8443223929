"""An evaluation from its config to its table; `run` is what every entry point calls."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from autoalign import model_folder
from autoalign.atomic_files import write_text
from autoalign.config.evaluate import EvalConfig
from autoalign.errors import AutoAlignError, InputError, StoppedEarly
from autoalign.evaluation import benchmark, contamination, finished, own_code, pictures, reuse, table
from autoalign.evaluation.answering import Answering
from autoalign.evaluation.ask import Answered
from autoalign.evaluation.benchmark import Benchmark
from autoalign.evaluation.deployment import Served, require_vllm, served
from autoalign.evaluation.layout import Layout, layout_of, settle
from autoalign.evaluation.model_view import Rendering, make_view, rendering_of
from autoalign.evaluation.opencompass.process import require_plain
from autoalign.evaluation.opencompass.run import Plan, Run
from autoalign.evaluation.proxies import here_past_proxies
from autoalign.evaluation.results import Result, write_questions, write_results
from autoalign.evaluation.tools import Tools
from autoalign.sampling.stopping import stop_signals


@dataclass(frozen=True)
class EvalReport:
    """What came out.

    Attributes:
        contaminated: questions found in the training data, by benchmark; None where it was not searched.
        seconds: of the whole job.
        start_seconds: of those, until the model's own server was up, and those of OpenCompass's start.
    """

    layout: Layout
    model: str
    results: tuple[Result, ...]
    contaminated: dict[str, int | None]
    seconds: float
    start_seconds: float = 0.0

    @property
    def failed(self) -> tuple[Result, ...]:
        """Benchmarks without a figure."""
        return tuple(result for result in self.results if result.error is not None)

    def summary(self) -> str:
        """The table and where the files are."""
        rows = {self.model: self.results}
        lines = [table.plain_text(rows), *table.chart(rows)]
        for result in self.results:
            if left_out := result.notes.get("left_out"):
                lines.append(f"{result.key}: {left_out} questions have no score and are left out")
            for judges, kappa in result.notes.get("agreement", {}).items():
                lines.append(f"{result.benchmark}: the judges {judges} agree with kappa {kappa:.2f}")
        for name, count in self.contaminated.items():
            shared = f"{count} questions are in the training data, whole or by a run of words"
            lines.append(f"{name}: {'not searched (failed)' if count is None else shared}")
        place = self.layout
        start = f" ({self.start_seconds:.1f} s of them to start)" if self.start_seconds else ""
        files = f"{place.text}, {place.csv}" + (f", {place.picture}" if place.picture.is_file() else "")
        lines.append(f"done in {self.seconds:.1f} s{start}: {files}, questions in {place.questions}")
        return "\n".join(lines)


def run(config: EvalConfig) -> EvalReport:
    """Score the model on every benchmark asked for; one that fails says so in its cell, the others go on.

    Raises:
        InputError: something the user gave is wrong; nothing was started.
        StoppedEarly: Ctrl-C or SIGTERM; what was done is kept for `--reuse`.
    """
    began = time.monotonic()
    contamination.require_readable(config)
    own = benchmark.load_all(config)
    plan = Plan.of(config) if config.dataset_names else None
    folder = _model_folder(config)
    layout = layout_of(config)
    if config.reuse:
        reuse.require_same(layout, config, folder, [each.name for each in own])
    rendering = _look_over(config, layout, own, plan, folder)
    settle(layout, config)
    version = plan.environment.version if plan else None
    sets = plan.forget_other_data(layout, config, reuse.noted_sets(layout)) if plan else None
    reuse.note(layout, config, folder, {each.name: each.path for each in own}, version, sets)
    try:
        with stop_signals(), here_past_proxies():
            job = _Job(config, layout, own, plan, folder, rendering, began)
            results = job.results()
    except KeyboardInterrupt:
        raise StoppedEarly(
            f"stopped; what was done is in {layout.folder}: go on with --model_id {layout.model_id} --reuse"
        ) from None
    if config.reuse:
        results = reuse.with_earlier(layout, results)
    write_results(layout.results, results)
    rows = {config.name: results}
    write_text(layout.csv, table.csv_text(rows))
    write_text(layout.text, table.plain_text(rows))
    pictures.bars(rows, layout.picture)
    failed = [result.benchmark for result in results if result.error is not None]
    contaminated = contamination.search(config, own, plan, layout, failed)
    seconds = time.monotonic() - began
    return EvalReport(layout, config.name, tuple(results), contaminated, seconds, job.start_seconds)


def _model_folder(config: EvalConfig) -> Path | None:
    """The model's folder; None where an endpoint alone knows it."""
    try:
        return model_folder.find(str(config.model_path), fetch=config.endpoint is None)
    except InputError:
        if config.endpoint is None:
            raise
        return None


def _look_over(
    config: EvalConfig, layout: Layout, own: Sequence[Benchmark], plan: Plan | None, folder: Path | None
) -> Rendering | None:
    """How the model is asked; None where only an endpoint knows it.

    Raises:
        InputError: the job could not start; nothing of an earlier one has been thrown away.
    """
    if plan is not None:
        require_plain(layout.opencompass_log.absolute(), plan.environment.python)
    asks = plan is not None or any(each.generates for each in own)
    # With `reuse` nothing may be left to ask, and nothing is thrown away.
    if asks and config.endpoint is None and config.backend == "vllm" and not config.reuse:
        require_vllm()
    if folder is None:
        return None
    return rendering_of(folder, config.template_name, config.trust_remote_code)


def _why(error: Exception) -> str:
    """On one line; what nobody expected has its traceback on stderr."""
    told = " ".join(str(error).split())
    if isinstance(error, AutoAlignError):
        return told
    _say("".join(traceback.format_exception(error)))
    return f"{type(error).__name__}: {told}"


@dataclass
class _Job:
    """The benchmarks of a job, asked first and scored afterwards, so that a judge finds the memory free."""

    config: EvalConfig
    layout: Layout
    own: Sequence[Benchmark]
    plan: Plan | None
    folder: Path | None
    rendering: Rendering | None
    began: float
    start_seconds: float = 0.0

    def results(self) -> list[Result]:
        """All of them, OpenCompass's first, in the order asked for."""
        done = self._finished()
        todo = [each for each in self.own if each.name not in done]
        answered: dict[str, list[Answered] | str] = {}
        with ExitStack() as stack:
            asked = [each for each in todo if each.generates]
            server, view = self._server(stack, bool(asked))
            objective = list(self._objective(view, server))
            answered = {each.name: [Answered(ask, ()) for ask in each.asks] for each in todo}
            if asked:
                asking = stack.enter_context(closing(Answering(self.config, view, server)))
                answered |= {each.name: self._answers(each, asking) for each in asked}
        results = objective
        for each in self.own:
            known = each.name in done
            results = [*results, *(done[each.name] if known else self._score(each, answered[each.name]))]
        return results

    def _server(self, stack: ExitStack, needed: bool) -> tuple[Served | None, Path | None]:
        """What is asked; nothing is started when everything is done already."""
        config, layout = self.config, self.layout
        view = None
        if self.folder is not None and self.rendering is not None:
            view = make_view(self.folder, layout.folder.absolute() / "model", self.rendering)
        if config.endpoint is not None:
            return Served(config.endpoint, str(config.model_path)), view
        if config.backend == "hf" or not (needed or self._opencompass_is_open(view)):
            return None, view
        assert view is not None
        server = stack.enter_context(served(config, view, layout.folder / "server.log"))
        self.start_seconds = time.monotonic() - self.began
        return server, view

    def _opencompass_is_open(self, view: Path | None) -> bool:
        return self.plan is not None and Run(self.config, self.layout, self.plan, view, None).is_open()

    def _objective(self, view: Path | None, server: Served | None) -> Iterator[Result]:
        if self.plan is None:
            return
        job = Run(self.config, self.layout, self.plan, view, server)
        if job.is_open():
            names = ", ".join(each.name for each in self.plan.configs)
            _say(f"OpenCompass is at work on {names}; its log: {job.log}")
        waiting = [each.name for each in self.plan.configs]
        try:
            for collected in job.collect():
                name = collected.result.benchmark
                write_questions(self._questions(name), collected.questions)
                waiting = [each for each in waiting if each != name]
                yield collected.result
        except Exception as error:  # our own benchmarks are asked all the same
            why = _why(error)
            yield from (Result(name, "", error=why) for name in waiting)
        self.start_seconds += job.start_seconds

    def _answers(self, each: Benchmark, asking: Answering) -> list[Answered] | str:
        """The answers, or why there are none."""
        _say(f"{each.name}: {len(each.asks)} questions")
        try:
            store = self.layout.answers / f"{each.name}.jsonl"
            return asking.answer(each.name, each.asks, each.max_new_tokens, store)
        except Exception as error:  # whatever it is, it is this benchmark's alone
            return _why(error)

    def _score(self, each: Benchmark, answered: list[Answered] | str) -> list[Result]:
        if isinstance(answered, str):
            return [Result(each.name, "", error=answered)]
        tools = Tools(self.config, each.name, self.layout.verdicts)
        try:
            with own_code.told(each.code) if each.code else nullcontext():
                scored = own_code.scored_of(each.score(answered, tools))
            results = [replace(result, benchmark=each.name) for result in scored.results]
            write_questions(self._questions(each.name), scored.questions)
            if all(result.error is None for result in results):
                finished.write(self._result_file(each.name), each, results)
        except Exception as error:  # whatever it is, it is this benchmark's alone
            return [Result(each.name, "", error=_why(error))]
        return results

    def _finished(self) -> dict[str, list[Result]]:
        """Of our own benchmarks, those that an earlier run finished."""
        found = {each.name: finished.read(self._result_file(each.name), each) for each in self.own}
        return {name: results for name, results in found.items() if results is not None}

    def _result_file(self, name: str) -> Path:
        return self.layout.answers / f"{name}{finished.SUFFIX}"

    def _questions(self, name: str) -> Path:
        return self.layout.questions / f"{name}.jsonl"


def _say(text: str) -> None:
    print(f"eval: {text}", file=sys.stderr, flush=True)
