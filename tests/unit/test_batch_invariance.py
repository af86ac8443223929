"""vLLM's batch-invariant mode: where it is set, and where it can't be had."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from autoalign.errors import JobFailed
from autoalign.sampling.engines.base import EngineOptions, SamplingParams
from autoalign.sampling.engines.vllm import VllmEngine
from autoalign.sampling.keys import AnswerKeys
from autoalign.sampling.vllm_process import prepare_environment
from autoalign.sampling.worker import WorkerSpec


@pytest.mark.parametrize(("use_gpu", "asked", "found"), [(True, True, "1"), (True, False, None)])
def test_vllm_is_told_by_its_environment(
    monkeypatch: pytest.MonkeyPatch, use_gpu: bool, asked: bool, found: str | None
) -> None:
    monkeypatch.setattr(os, "environ", {})
    prepare_environment(use_gpu, asked)
    assert os.environ.get("VLLM_BATCH_INVARIANT") == found


def test_it_is_part_of_an_answers_key_where_it_is_asked_for() -> None:
    spec = WorkerSpec("openai", EngineOptions("m"), SamplingParams(), 7)
    other = replace(spec, options=replace(spec.options, batch_invariant=True))
    assert AnswerKeys.of_job(spec).job != AnswerKeys.of_job(other).job


def test_on_a_cpu_it_is_refused_with_what_does_the_same() -> None:
    with pytest.raises(JobFailed, match="on a CPU --dtype float32 does the same"):
        VllmEngine(EngineOptions("m", batch_invariant=True))


@pytest.mark.parametrize("capability", [(8, 0), (8, 9)])
def test_an_older_gpu_is_refused(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]) -> None:
    from torch import cuda

    monkeypatch.setattr(cuda, "get_device_capability", lambda: capability)
    with pytest.raises(JobFailed, match=rf"9.0 \(H100, B200\); this one has 8.{capability[1]}"):
        VllmEngine(EngineOptions("m", batch_invariant=True, use_gpu=True))
