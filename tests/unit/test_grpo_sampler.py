"""An engine on a thread of its own: answers in order, failed requests, a dead engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from autoalign.reinforcement.sampler import EngineThread
from autoalign.sampling.engines.base import (
    EngineDead,
    EngineOptions,
    GenerationRequest,
    SamplingParams,
)


@contextmanager
def engine(**extra: Any) -> Iterator[EngineThread]:
    made = EngineThread("fake", EngineOptions("m", extra=extra))
    try:
        yield made
    finally:
        made.close()


def requests(*names: str) -> list[GenerationRequest]:
    said = [{"role": "user", "content": name} for name in names]
    return [
        GenerationRequest(name, (turn,), (1,), SamplingParams())
        for name, turn in zip(names, said, strict=True)
    ]


def test_answers_come_in_the_requests_order_whoever_finishes_first() -> None:
    with engine(latency=0.05, reverse=True) as made:
        found = made.answer(requests("a", "b", "c"))
    assert [answer.text for answer in found if answer] == ["echo: a", "echo: b", "echo: c"]


def test_a_request_is_tried_again_and_one_that_always_fails_has_no_answer() -> None:
    with engine(fail_once_ids=["a"], fail_ids=["b"]) as made:
        found = made.answer(requests("a", "b"))
    assert [answer and answer.text for answer in found] == ["echo: a", None]


def test_a_dead_engine_ends_the_job(tmp_path: Path) -> None:
    with engine(fault=("dead", 1, str(tmp_path / "happened"))) as made, pytest.raises(EngineDead):
        made.answer(requests("a", "b"))
