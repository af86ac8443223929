"""The actor's loop on the fake engine, without Ray: order, retries, failures, seeds."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from autoalign.sampling.engines.base import EngineOptions, SamplingParams, derive_seed
from autoalign.sampling.messages import Message, pack_task, unpack
from autoalign.sampling.prompts import Prompt
from autoalign.sampling.worker import EngineWorker, WorkerSpec


def messages(worker: EngineWorker, count: int, wanted: list[int]) -> list[Message]:
    prompts = [Prompt(i, f"p{i}", ({"role": "user", "content": f"say {i}"},), (1, 2)) for i in range(count)]
    task = pack_task(5, [(prompt, wanted) for prompt in prompts])
    table = pa.table({"task": pa.array([task], pa.binary())})
    return [unpack(part["message"].to_pylist()[0]) for part in worker(table)]


def answers(count: int, wanted: list[int], temperature: float = 0.0, **extra: Any) -> list[dict[str, Any]]:
    """Answers in the order in which the worker gives them."""
    params = SamplingParams(temperature=temperature, max_new_tokens=9)
    worker = EngineWorker(WorkerSpec("fake", EngineOptions("m", extra=extra), params, seed=7))
    return [asdict(answer) for message in messages(worker, count, wanted) for answer in message.answers]


def test_every_answer_comes_once() -> None:
    got = answers(3, [0, 1])
    assert sorted((a["prompt"], a["index"]) for a in got) == [(p, i) for p in range(3) for i in range(2)]
    assert {a["text"] for a in got} == {"echo: say 0", "echo: say 1", "echo: say 2"}


def test_answers_come_as_they_finish() -> None:
    assert [a["prompt"] for a in answers(3, [0], latency=0.3, reverse=True)] == [2, 1, 0]


def test_a_request_that_fails_once_is_tried_again() -> None:
    (answer,) = answers(1, [0], fail_once_ids=["p0-0"])
    assert (answer["error"], answer["text"]) == (None, "echo: say 0")


def test_a_request_that_fails_twice_gives_its_reason() -> None:
    (answer,) = answers(1, [0], fail_ids=["p0-0", "p0-0-again"])
    assert answer["error"] == "the fake engine was told to fail"


def test_the_seed_depends_on_prompt_and_index_alone() -> None:
    expected = int.from_bytes(hashlib.sha256(b"7\0p0\x001").digest()[:4], "big") % 2**31
    assert derive_seed(7, "p0", 1) == expected
    alone = {a["index"]: a["text"] for a in answers(1, [1], temperature=1.0)}
    together = {a["index"]: a["text"] for a in answers(1, [0, 1], temperature=1.0)}
    assert alone[1] == together[1] == f"echo: say 0 [{expected}]"
    assert together[0] != together[1]


def test_a_task_is_finished_with_its_last_answer() -> None:
    worker = EngineWorker(WorkerSpec("fake", EngineOptions("m"), SamplingParams(), seed=7))
    *others, last = messages(worker, 3, [0, 1])
    assert last.finished == 5
    assert all(message.finished is None for message in others)


def test_an_error_that_ends_the_job_is_named_not_raised() -> None:
    worker = EngineWorker(WorkerSpec("nosuch", EngineOptions("m"), SamplingParams(), seed=7))
    (message,) = messages(worker, 1, [0])
    assert message.failure is not None
    assert message.failure[0] == "UnknownName"
    assert "vllm" in message.failure[1]
