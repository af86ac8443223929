"""A sampling job from its config to its files; `run` is what every entry point calls."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from autoalign import cluster
from autoalign.config.sample import InferConfig
from autoalign.errors import ConfigError, DataError, JobFailed, StoppedEarly
from autoalign.progress import ProgressBar
from autoalign.records import Conversation
from autoalign.sampling import local, output, pipeline
from autoalign.sampling.collector import Collector
from autoalign.sampling.engines.base import require_support
from autoalign.sampling.keys import AnswerKeys
from autoalign.sampling.messages import Message
from autoalign.sampling.passes import Passes, warn
from autoalign.sampling.progress import SampleProgress, Watch
from autoalign.sampling.prompts import Prompt, Refused, Renderer, prepare
from autoalign.sampling.replicas import Replicas, in_flight, on_cluster, require_room
from autoalign.sampling.report import SampleReport
from autoalign.sampling.setup import prepare_model
from autoalign.sampling.stopping import stop_signals
from autoalign.sampling.sweep import Sweep
from autoalign.sampling.turns import turns_of
from autoalign.sampling.worker import WorkerSpec

_COUNTED_AT = 1024  # prompts between two looks at the clock


def run(config: InferConfig, watch: Watch | None = None) -> SampleReport:
    """Answer every prompt of `config.test_file`.

    Args:
        watch: told of the prompts settled so far, as they are.

    Returns:
        the figures; the answers are in `SampleReport.output`, in the input's order.

    Raises:
        InputError: something the user gave is wrong; no engine was started.
        JobFailed: the engine failed, or more than `max_error_rate` of the answers did.
        StoppedEarly: Ctrl-C or SIGTERM; what was finished is kept, and the next run goes on from there.
    """
    started = time.time()
    _refuse_output(config)
    if config.models:
        raise ConfigError("'models': several models are for run_each")
    if config.n > 1 and 0 in _listed(config.temperature):
        warn(f"temperature 0 gives the same answer {config.n} times; give --temperature to vary them")
    setup = prepare_model(config)
    options, params, renderer = setup
    require_support(config.backend, params)
    sweep = Sweep.of(config, params)
    turns = turns_of(config, setup)
    if turns is not None:
        options = turns.with_room(config.backend, options)
    options = replace(options, seeded=any(not one.greedy for one in sweep.params))
    ways = sweep.params if sweep.recorded else ()
    spec = WorkerSpec(config.backend, options, params, config.seed, ways, turns)
    keys = AnswerKeys.of_job(spec, config.split_reasoning)
    try:
        with Collector(config, sweep.recorded, keys) as collector:
            _read_prompts(config, renderer, sweep, collector)
            if watch is not None:
                watch(collector.settled_before())
            if collector.missing:
                _generate(config, spec, collector, watch)
            report = with_picture(collector.finish(started))
    except OSError as error:
        reason = f"{error.filename or config.output_path}: {error.strerror or error}"
        raise JobFailed(
            f"{reason}; finished answers are kept, the same command goes on from there"
        ) from error
    if report.error_rate > config.max_error_rate:
        raise JobFailed(
            f"{report.failed} of {report.answers + report.failed} answers failed, more than --max_error_rate "
            f"{config.max_error_rate:g}; the reasons are in {report.errors}"
        )
    return report


def with_picture(report: SampleReport) -> SampleReport:
    """`sample.png` beside the output, of the answers that this run made."""
    if not report.figures.reasons:
        return report
    from autoalign.sampling import pictures

    picture = report.output.with_name(pictures.NAME)
    pictures.draw(report.figures, picture, f"{report.output.name}: {report.answers:,} answers")
    return replace(report, picture=picture)


def run_each(config: InferConfig) -> Iterator[SampleReport]:
    """`run` for each of `config.models`, or for the one model."""
    refused = [one.output_path for one in _of_each_model(config)]
    for one in _of_each_model(config):
        _refuse_output(one)
    if len(set(refused)) < len(refused):
        raise ConfigError("'models': two of them have the same name, and would share an output folder")
    for one in _of_each_model(config):
        yield run(one)


def _refuse_output(config: InferConfig) -> None:
    """Of a finished sharegpt file nothing can be used again: its rows have no keys."""
    replace = config.output_format == "jsonl" or config.overwrite or config.fresh
    output.refuse_existing(config.output_path, replace)


def _of_each_model(config: InferConfig) -> list[InferConfig]:
    each = [config.model_copy(update={"model_path": path, "models": []}) for path in config.models]
    return each or [config]


def _listed(value: float | list[float]) -> list[float]:
    return value if isinstance(value, list) else [value]


def _read_prompts(config: InferConfig, renderer: Renderer, sweep: Sweep, collector: Collector) -> None:
    conversations = _conversations(config, collector.quarantine)
    renamed = collector.expect(_counted(prepare(conversations, renderer, sweep=sweep)))
    if not collector.expected:
        raise DataError("no prompts in it", file=", ".join(config.test_file))
    if renamed:
        warn(f"{renamed} prompts repeat the id of another; they are named '#2', '#3', ... in the output")
    if collector.failed:
        warn(f"{collector.failed} answers can't be had; the reasons will be in {output.ERRORS_NAME}")
    if collector.reused:
        warn(f"{collector.reused} of {collector.expected} answers are there, {collector.missing} to be made")


def _counted(prompts: Iterable[Prompt | Refused]) -> Iterator[Prompt | Refused]:
    """The same; where reading takes long it is told how far it is."""
    bar = ProgressBar("infer")
    for number, prompt in enumerate(prompts):
        if number % _COUNTED_AT == 0:
            bar.update(number, partial("{:,} prompts read".format, number))
        yield prompt


def _generate(config: InferConfig, spec: WorkerSpec, collector: Collector, watch: Watch | None) -> None:
    """Have every answer made that is missing."""
    here = config.runs_locally(cluster.is_up() or "RAY_ADDRESS" in os.environ)
    try:
        with (
            pipeline.silencer() as hush,
            # One CPU more than the actors, for the reading tasks.
            local.this_machine()
            if here
            else cluster.ray_session(config.ray_address, config.max_replicas + 1) as machines,
            stop_signals(hush),
            SampleProgress(collector.missing, watch) as progress,
        ):
            pool = Replicas.of(config)
            spec = on_cluster(spec, pool, machines, config.cpus_per_replica)
            require_room(spec, pool, machines)
            say = None if machines.is_local else progress.note  # a cluster of one's own has room

            def reports(tasks: pipeline.Tasks) -> Generator[Message, None, None]:
                return local.reports(tasks, spec) if here else pipeline.reports(tasks, spec, pool, hush, say)

            engines = 0 if config.backend in ("openai", "serve") else 1 if here else config.max_replicas
            at_work = local.AHEAD * in_flight(spec) * engines
            Passes(reports, collector, progress, config.n, at_work).run()
    except KeyboardInterrupt:
        raise StoppedEarly(f"stopped: {collector.what_is_kept()}") from None


def _conversations(config: InferConfig, quarantine: Path) -> Iterator[Conversation]:
    """The test files' prompts, one after the other.

    Raises:
        DataError: bad rows, the first 20 of them in one message, unless they go to quarantine.
    """
    from autoalign import formats

    rows: Iterator[Any] = formats.iter_records(
        config.test_file, purpose="prompts", on_bad_row=config.on_bad_row, errors_path=quarantine
    )
    try:
        first, step = map(int, (config.shard or "0/1").split("/"))
        yield from itertools.islice(rows, first, config.limit, step)
    except DataError:
        # A stream knows only its first bad row; reading on to the end finds the others.
        formats.refuse_bad_rows(config.test_file, purpose="prompts", limit=config.limit)
        raise
