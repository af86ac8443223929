"""Our side: the loop that `autoalign-cli` runs, with a reporter that reads the clock."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from autoalign.model_folder import load_tokenizer
from autoalign.training import reference
from autoalign.training.examples import Layout
from autoalign.training.loop import train, use_threads
from autoalign.training.model import is_padding_free
from autoalign.training.objective import objective_of
from autoalign.training.reporting import Display, LocalReporter
from autoalign.training.world import World, device_of
from benchmarks import workload
from benchmarks.meter import Meter, figures
from benchmarks.plan import Settings
from benchmarks.workload import Prepared


class ClockReporter:
    """What the loop tells at the end of a step becomes a mark.

    Args:
        then: called with the number of steps done so far.
    """

    def __init__(self, then: Callable[[int], None] = lambda done: None) -> None:
        self.meter, self.tokens = Meter(), [0]
        self._then = then

    def emit(self, event: Mapping[str, Any]) -> None:
        """Take the mark."""
        if event["kind"] == "step":
            self.meter.step_ended()
            self.tokens.append(event["tokens"])
            self._then(len(self.meter.marks))

    def should_stop(self) -> bool:
        """Never."""
        return False


def measure_sft(settings: Settings) -> dict[str, Any]:
    """Tokens a second of `sft`."""
    reporter = ClockReporter()
    train_sft(settings, reporter)
    steps = workload.read(settings, "sft")
    expected = workload.amounts(steps, "sft")
    done = [after - before for before, after in pairwise(reporter.tokens)]
    if done != expected:
        raise SystemExit(f"our steps had {done} tokens, TRL's {expected}: not the same rows")
    return figures(reporter.meter.marks, expected, supervised=workload.supervised(steps))


def train_sft(settings: Settings, reporter: ClockReporter) -> None:
    """The whole job, from its tokens on."""
    with tempfile.TemporaryDirectory() as scratch:
        job = workload.prepared(workload.config_of(settings, "sft", Path(scratch)), settings)
        use_threads(settings.threads)
        train(job.task, job.tables, _world(), reporter)


def measure_dpo(settings: Settings, cached: bool) -> dict[str, Any]:
    """Pairs a second of `dpo`.

    Args:
        cached: the reference's log-probs are in the cache; else working them out counts,
            its model's load apart.
    """
    reporter, seconds = ClockReporter(), 0.0
    with tempfile.TemporaryDirectory() as scratch:
        cache = None if cached else Path(scratch) / "cache"
        config = workload.config_of(settings, "dpo", Path(scratch) / "out", cache)
        job = workload.prepared(config, settings)
        use_threads(settings.threads)
        if not cached:
            seconds = _reference_seconds(job)
        train(job.task, job.tables, _world(), reporter)
    steps = workload.read(settings, "dpo")
    tokens = [sum(map(workload.pair_tokens, step)) for step in steps]
    share = sum(tokens[1:]) / sum(tokens)
    return figures(
        reporter.meter.marks, workload.amounts(steps, "dpo"), seconds * share, reference_seconds=seconds
    )


def fill_cache(settings: Settings) -> None:
    """Work the reference's log-probs out, for the runs that find them cached."""
    with tempfile.TemporaryDirectory() as scratch:
        job = workload.prepared(workload.config_of(settings, "dpo", Path(scratch)), settings)
        use_threads(settings.threads)
        _examples(job)


def _reference_seconds(job: Prepared) -> float:
    """Seconds of the pass over all pairs."""
    began = time.monotonic()
    reference.load(job.task)
    loaded = time.monotonic()
    _examples(job)
    return (time.monotonic() - loaded) - (loaded - began)


def _examples(job: Prepared) -> None:
    config, path = job.task.config, job.task.model_path
    tokenizer = load_tokenizer(path, config.trust_remote_code)
    layout = Layout(is_padding_free(config, path), tokenizer.pad_token_id or 0)
    silent = LocalReporter(Display(config.job, quiet=True))
    objective_of(job.task).examples(job.task, job.tables, _world(), layout, silent)


def _world() -> World:
    return World(0, 1, device_of(torch.cuda.is_available(), 0))
