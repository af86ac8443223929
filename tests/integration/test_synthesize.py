"""Synthesis over engines in Ray actors: order, failures, a whole job."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autoalign import formats
from autoalign.cluster import Cluster, ray_session
from autoalign.config.synthesize import SynthesizeConfig
from autoalign.errors import JobFailed, ModelError
from autoalign.sampling import waiting
from autoalign.sampling.engines.base import EngineOptions, GenerationRequest, SamplingParams
from autoalign.sampling.pool import EnginePool
from autoalign.sampling.worker import WorkerSpec
from autoalign.synthesizing.run import run
from tests.other_job import OtherJob

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


def test_a_pool_says_what_it_waits_for_until_all_engines_have_a_place(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another job has left room for one engine of two, and ends when it is told so."""
    monkeypatch.setattr(waiting, "_SAY_FIRST", 3.0)
    other = OtherJob(cluster.cpus - 1)
    spec = WorkerSpec("fake", EngineOptions("m", concurrency=2), SamplingParams(), 1)
    with EnginePool(spec, 2, cluster._replace(is_local=False), say=other.hear) as pool:
        assert len(list(pool.generate([request("r0"), request("r1")]))) == 2
    assert "2 engine(s) of 1 CPU asked, room for 1. CPU: 2 asked, 1 free, " in other.told[0]


def test_an_engine_that_cant_start_ends_the_job(cluster: Cluster, tmp_path: Path) -> None:
    spec = WorkerSpec("hf", EngineOptions(str(tmp_path)), SamplingParams(), 1)
    with pytest.raises((ModelError, JobFailed)), EnginePool(spec, 1, cluster):
        pass


def test_magpie_from_end_to_end_and_once_more(tmp_path: Path, demo_model: Path) -> None:
    """The fake engine says back what it is shown; `test_engines.py` has real models write questions."""
    values: dict[str, Any] = {
        "method": "magpie", "backend": "fake", "model_path": str(demo_model), "num_rows": 3,
        "output_file": str(tmp_path / "m.jsonl"), "system_message": "Be brief.",
    }  # fmt: skip
    report = run(SynthesizeConfig.build(values))
    assert (report.kept, report.asked, report.reused) == (3, 6, 0)
    for record in formats.load(report.output, kind="sft").conversations:
        assert [message.role for message in record.messages] == ["system", "user", "assistant"]
    again = run(SynthesizeConfig.build({**values, "overwrite": True}))
    assert (again.kept, again.asked, again.reused) == (3, 0, 6)
