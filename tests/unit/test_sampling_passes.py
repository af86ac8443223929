"""Engines that die of what they are asked: the rest of the job is done."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from autoalign.config.sample import InferConfig
from autoalign.errors import JobFailed
from autoalign.records import Conversation, Message
from autoalign.sampling import local
from autoalign.sampling.collector import Collector
from autoalign.sampling.engines.base import EngineDead, EngineOptions, SamplingParams
from autoalign.sampling.messages import Message as Report
from autoalign.sampling.passes import Passes
from autoalign.sampling.pipeline import Tasks
from autoalign.sampling.progress import SampleProgress
from autoalign.sampling.prompts import PlainRenderer, prepare
from autoalign.sampling.worker import WorkerSpec


class Engines:
    """Fake engines one after the other; what each was asked."""

    def __init__(self, concurrency: int = 4, **extra: Any) -> None:
        options = EngineOptions("m", concurrency=concurrency, extra=extra)
        self._spec = WorkerSpec("fake", options, SamplingParams(max_new_tokens=8), seed=1)
        self.asked: list[list[str]] = []

    def reports(self, tasks: Tasks) -> Generator[Report, None, None]:
        prompts = list(tasks.prompts)
        self.asked.append([f"{prompt.id}-{index}" for prompt, wanted in prompts for index in wanted])
        return local.reports(Tasks(prompts, tasks.n, tasks.at_most), self._spec)


def run(tmp_path: Path, engines: Any, prompts: int = 12, at_work: int = 8) -> tuple[list[str], list[str]]:
    """Ids of the answers, and of those that failed."""
    config = InferConfig.build(
        {
            "model_path": "m",
            "backend": "fake",
            "test_file": "q.jsonl",
            "output_file": str(tmp_path / "out.jsonl"),
        }
    )
    asked = [Conversation(f"p{n}", (Message("user", f"say {n}"),)) for n in range(prompts)]
    with Collector(config) as collector:
        collector.expect(prepare(asked, PlainRenderer()))
        Passes(engines.reports, collector, SampleProgress(prompts), config.n, at_work).run()
        collector.finish(0.0)
    return ids(tmp_path / "out.jsonl"), ids(tmp_path / "errors.jsonl")


def ids(path: Path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize("killers", [["p0-0"], ["p5-0"], ["p0-0", "p3-0", "p11-0"], ["p6-0", "p7-0"]])
def test_what_an_engine_dies_of_fails_and_the_rest_is_done(tmp_path: Path, killers: list[str]) -> None:
    done, failed = run(tmp_path, Engines(kill_ids=killers))
    assert failed == killers
    assert done == [f"p{n}-0" for n in range(12) if f"p{n}-0" not in killers]
    errors = (tmp_path / "errors.jsonl").read_text()
    assert f"the engine dies of it: the fake engine dies of {killers[0]}" in errors


def test_a_death_that_does_not_happen_again_costs_no_answer(tmp_path: Path) -> None:
    """All twelve, of which none was answered; the eight that were at work; the other four."""
    engines = Engines(fault=("dead", 6, str(tmp_path / "happened")))
    assert run(tmp_path, engines) == ([f"p{n}-0" for n in range(12)], [])
    assert [len(each) for each in engines.asked] == [12, 8, 4]


class Dying:
    """Engines that die whatever they are asked."""

    def __init__(self, error: JobFailed) -> None:
        self._error, self.starts = error, 0

    def reports(self, tasks: Tasks) -> Generator[Report, None, None]:
        self.starts += 1
        raise self._error
        yield


@pytest.mark.parametrize(
    ("error", "prompts", "at_work", "starts"),
    [
        (JobFailed("no such GPU"), 64, 64, 1),
        (EngineDead("gone"), 64, 64, 1 + 17),  # more than 16 deaths in a row are the engine's own
        (EngineDead("gone"), 2, 64, 1 + 3),  # both together and each alone: nothing was ever answered
        (EngineDead("404: no such model"), 64, 0, 1),  # an endpoint
    ],
)
def test_an_engine_that_never_answers_ends_the_job_and_no_prompt_is_blamed(
    tmp_path: Path, error: JobFailed, prompts: int, at_work: int, starts: int
) -> None:
    engines = Dying(error)
    with pytest.raises(JobFailed, match=str(error)):
        run(tmp_path, engines, prompts, at_work)
    assert engines.starts == starts
    assert ids(tmp_path / "errors.jsonl") == []
