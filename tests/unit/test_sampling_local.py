"""One engine in this process, without Ray."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autoalign import progress
from autoalign.config.sample import InferConfig
from autoalign.errors import ConfigError, JobFailed, ModelError
from autoalign.sampling import local
from autoalign.sampling import run as run_module
from autoalign.sampling.engines.base import EngineOptions, SamplingParams
from autoalign.sampling.messages import Answer
from autoalign.sampling.pipeline import Tasks
from autoalign.sampling.prompts import Prompt
from autoalign.sampling.worker import WorkerSpec


def spec(backend: str = "fake", model: str = "m", concurrency: int = 2, **extra: Any) -> WorkerSpec:
    options = EngineOptions(model, concurrency=concurrency, extra=extra)
    return WorkerSpec(backend, options, SamplingParams(max_new_tokens=8), seed=1)


def tasks(count: int, n: int = 1) -> Tasks:
    def each() -> Iterator[tuple[Prompt, list[int]]]:
        for place in range(count):
            message = {"role": "user", "content": f"word{place}"}
            yield Prompt(place, f"p{place}", (message,), (1, 2)), list(range(n))

    return Tasks(each(), n)


def answers(given: Tasks, by: WorkerSpec) -> list[Answer]:
    return [answer for message in local.reports(given, by) for answer in message.answers]


def test_every_answer_comes_once() -> None:
    made = answers(tasks(9, n=3), spec())
    assert sorted((one.prompt, one.index) for one in made) == [(p, i) for p in range(9) for i in range(3)]
    assert all(f"word{one.prompt}" in one.text for one in made)


def test_prompts_are_taken_as_there_is_room() -> None:
    taken: list[int] = []

    def each() -> Iterator[tuple[Prompt, list[int]]]:
        for prompt, wanted in tasks(20).prompts:
            taken.append(prompt.index)
            yield prompt, wanted

    for message in local.reports(Tasks(each(), 1), spec(concurrency=2)):
        assert message.in_flight <= 4
        if len(taken) < 20:
            break
    assert len(taken) <= 8  # four at work; as many again when those are done


def test_a_dead_engine_ends_the_job_and_keeps_what_was_finished(tmp_path: Path) -> None:
    made: list[Answer] = []
    with pytest.raises(JobFailed, match="told to die"):
        for message in local.reports(tasks(8), spec(concurrency=1, fault=("dead", 5, str(tmp_path / "x")))):
            made += message.answers
    # The fifth is asked when the third is there: the engine may be at work on the fourth when it dies.
    assert [one.prompt for one in made] in ([0, 1, 2], [0, 1, 2, 3])


def test_an_engine_that_can_not_start_ends_the_job(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=re.escape(str(tmp_path))):
        answers(tasks(1), spec("hf", str(tmp_path)))


def test_no_thread_is_left() -> None:
    before = threading.enumerate()  # other tests' too
    answers(tasks(2), spec())
    for thread in set(threading.enumerate()) - set(before):
        if thread.name == "engine-loop":
            thread.join(timeout=5)
            assert not thread.is_alive()


def test_what_an_engines_process_prints_goes_to_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    with local.this_machine() as machine:
        os.write(2, b"a traceback of a child\n")
        print("our own line", file=sys.stderr)
        log = Path("/proc/self/fd/2").readlink()
        assert log.read_text() == "a traceback of a child\n"
    assert capfd.readouterr().err.splitlines() == ["our own line"]
    assert machine.cpus == len(os.sched_getaffinity(0)) and not log.exists()


@pytest.mark.parametrize(
    ("flags", "here"),
    [
        ({}, True),
        ({"backend": "hf"}, True),
        ({"num_replicas": 2}, False),
        ({"num_replicas": "1:2"}, False),
        ({"pipeline_parallel_size": 2}, False),
        ({"ray_address": "auto"}, False),
        ({"backend": "fake"}, False),
        ({"launcher": "ray"}, False),
        ({"backend": "fake", "launcher": "local"}, True),
    ],
)
def test_one_engine_where_no_cluster_is_named_needs_no_ray(flags: dict[str, Any], here: bool) -> None:
    config = InferConfig.build({"model_path": "m", "test_file": "x.jsonl", **flags})
    assert config.runs_locally(in_a_cluster=False) is here
    assert config.runs_locally(in_a_cluster=True) is (config.launcher == "local")


@pytest.mark.parametrize(
    "flags", [{"num_replicas": 2}, {"pipeline_parallel_size": 2}, {"ray_address": "auto"}]
)
def test_what_needs_ray_is_refused_with_launcher_local(flags: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"'{next(iter(flags))}' is for launcher ray"):
        InferConfig.build({"model_path": "m", "test_file": "x.jsonl", "launcher": "local", **flags})


def test_a_long_reading_is_told_of(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    monkeypatch.setattr(run_module, "_COUNTED_AT", 2)
    assert list(run_module._counted(iter("abcde"))) == list("abcde")
    assert capsys.readouterr().err.splitlines() == [f"infer: {n} prompts read" for n in (0, 2, 4)]
