"""The pipeline with many rows and several engines, small: `make bench-scale` measures it at size."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from autoalign.cluster import ray_session
from autoalign.sampling import pipeline, waiting
from autoalign.sampling.engines.base import EngineOptions, SamplingParams
from autoalign.sampling.prompts import Prompt
from autoalign.sampling.replicas import Replicas
from autoalign.sampling.worker import WorkerSpec
from benchmarks import scale_run
from tests.other_job import OtherJob

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with ray_session("local", 3):
        yield


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """Between 1,000 and 20,000 answers; a row of the output has 500 bytes."""
    figures = scale_run.rows(tmp_path, 20_000)
    assert figures["driver_growth_mib"] < 20


def test_answers_of_engines_that_come_later() -> None:
    """One engine to start with, a second one for what it can't take: all answers come, each once."""
    options = EngineOptions("m", concurrency=16, extra={"latency": 0.05})
    spec = WorkerSpec("fake", options, SamplingParams(), seed=1)
    prompts = [Prompt(i, f"p{i}", ({"role": "user", "content": "x"},), ()) for i in range(500)]
    tasks = pipeline.Tasks(((prompt, [0, 1]) for prompt in prompts), n=2)
    found = [a for part in pipeline.answers(tasks, spec, Replicas(1, 2), lambda: None) for a in part]
    assert sorted((a.prompt, a.index) for a in found) == [(p, i) for p in range(500) for i in (0, 1)]


def test_many_small_tasks_reach_the_engines(recwarn: pytest.WarningsRecorder) -> None:
    """400 tasks of an answer each: a source of two blocks ten times a second would take 20 s for them."""
    spec = WorkerSpec("fake", EngineOptions("m", concurrency=4), SamplingParams(), seed=1)
    prompts = [Prompt(i, f"p{i}", ({"role": "user", "content": "x"},), ()) for i in range(400)]
    tasks = pipeline.Tasks(((prompt, [0]) for prompt in prompts), n=1)
    given, begun = 0, 0.0
    for part in pipeline.answers(tasks, spec, Replicas(2, 2), lambda: None):
        begun = begun or time.monotonic()
        given += len(part)
    assert given == 400
    assert time.monotonic() - begun < 15
    assert not [one for one in recwarn if "ray_remote_args" in str(one.message)]


def test_prompts_are_taken_as_there_is_room_for_them() -> None:
    """When the first answer comes, the source has not been read to its end."""
    spec = WorkerSpec("fake", EngineOptions("m", concurrency=16), SamplingParams(), seed=1)
    read: list[int] = []

    def source():
        for number in range(2000):
            read.append(number)
            yield Prompt(number, f"p{number}", ({"role": "user", "content": "x"},), ()), [0]

    stream = pipeline.answers(pipeline.Tasks(source(), n=1), spec, Replicas(1, 1), lambda: None)
    next(stream)
    assert len(read) < 200
    stream.close()


def test_a_job_says_what_it_waits_for_and_goes_on_once_it_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another job has all CPUs, and ends when it is told of ours."""
    monkeypatch.setattr(waiting, "_SAY_FIRST", 1.0)
    cpus = ray.cluster_resources()["CPU"]
    other = OtherJob(cpus)
    spec = WorkerSpec("fake", EngineOptions("m", concurrency=8), SamplingParams(), seed=1)
    tasks = pipeline.Tasks(iter([(Prompt(0, "p0", ({"role": "user", "content": "x"},), ()), [0])]), n=1)
    messages = pipeline.reports(tasks, spec, Replicas(1, 1), lambda: None, other.hear)
    assert sum(len(message.answers) for message in messages) == 1
    assert other.told[0].endswith(
        f"1 engine(s) of 1 CPU asked, room for 0. CPU: 1 asked, 0 free, {cpus:g} in all"
    )


def test_ray_data_keeps_no_statistics_of_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be a kilobyte a message for as long as the job takes; afterwards it does as before."""
    from ray.data._internal.execution.operators import map_operator

    operators: list[map_operator.MapOperator] = []
    get_next = map_operator.MapOperator._get_next_inner

    def noted(self: map_operator.MapOperator) -> object:
        operators.append(self)
        return get_next(self)

    monkeypatch.setattr(map_operator.MapOperator, "_get_next_inner", noted)
    before = map_operator.to_stats
    spec = WorkerSpec("fake", EngineOptions("m", concurrency=8), SamplingParams(), seed=1)
    prompts = [Prompt(i, f"p{i}", ({"role": "user", "content": "x"},), ()) for i in range(40)]
    tasks = pipeline.Tasks(((prompt, [0]) for prompt in prompts), n=1)
    assert sum(len(part) for part in pipeline.answers(tasks, spec, Replicas(1, 1), lambda: None)) == 40
    assert len(operators) >= 40  # 20 tasks of two prompts on their way to the engine, their messages to us
    assert not any(operator._output_blocks_stats for operator in operators)
    assert map_operator.to_stats is before
