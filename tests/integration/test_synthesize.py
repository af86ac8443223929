"""Synthesis with real engines in Ray actors: the fake one's order and failures, the demo model's rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autoalign import formats
from autoalign.cluster import Cluster, ray_session
from autoalign.config.synthesize import SynthesizeConfig
from autoalign.errors import JobFailed, ModelError
from autoalign.sampling.engines.base import EngineOptions, GenerationRequest, SamplingParams
from autoalign.sampling.pool import EnginePool
from autoalign.sampling.worker import WorkerSpec
from autoalign.synthesizing.run import run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[Cluster]:
    with ray_session("local", min_cpus=3) as cluster:
        yield cluster


def request(name: str) -> GenerationRequest:
    return GenerationRequest(name, ({"role": "user", "content": name},), (1,), SamplingParams())


def test_a_pool_answers_every_request_once(cluster: Cluster) -> None:
    options = EngineOptions("m", concurrency=2, extra={"fail_ids": ["r3"]})
    with EnginePool(WorkerSpec("fake", options, SamplingParams(), 1), 2, cluster) as pool:
        found = {done.number: done for done in pool.generate([request(f"r{i}") for i in range(9)])}
    assert sorted(found) == list(range(9))
    assert found[3].error == "the fake engine was told to fail"
    assert {done.completion.text for done in found.values() if done.completion} == {
        f"echo: r{i}" for i in range(9) if i != 3
    }


def test_an_engine_that_cant_start_ends_the_job(cluster: Cluster, tmp_path: Path) -> None:
    spec = WorkerSpec("hf", EngineOptions(str(tmp_path)), SamplingParams(), 1)
    with pytest.raises((ModelError, JobFailed)), EnginePool(spec, 1, cluster):
        pass


def test_magpie_on_the_demo_model(tmp_path: Path, demo_model: Path) -> None:
    """Two questions out of nothing, the same ones again; the second run starts no engine."""
    values: dict[str, Any] = {
        "method": "magpie", "backend": "hf", "model_path": str(demo_model), "num_rows": 2,
        "max_new_tokens": 48, "temperature": 0.7, "output_file": str(tmp_path / "m.jsonl"),
    }  # fmt: skip
    report = run(SynthesizeConfig.build(values))
    assert report.kept >= 1
    for record in formats.load(report.output, kind="sft").conversations:
        assert [message.role for message in record.messages] == ["user", "assistant"]
    again = run(SynthesizeConfig.build({**values, "overwrite": True}))
    assert (again.asked, again.kept) == (0, report.kept)
