"""A checkpoint goes on with other workers and another ZeRO stage; shards, storage and figures under Ray."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from ray_jobs_of_tests import ray_cluster  # noqa: E402

from autoalign.training.metrics import read_metrics  # noqa: E402
from tests.sft_runs import Run, Runner, distance, read_weights  # noqa: E402
from tests.tiny import save_tiny_model, write_conversations  # noqa: E402

pytestmark = pytest.mark.slow

STEPS, SAVED = 8, 2
ON_TWO = {"launcher": "ray", "num_workers": 2, "cpus_per_worker": 1, "per_device_train_batch_size": 2}


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    # Logical CPUs: two workers, and the actors that tokenise and hand out shards beside them.
    with ray_cluster(cpus=6):
        yield


@pytest.fixture(scope="module")
def sft(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    folder = tmp_path_factory.mktemp("resume")
    return Runner(save_tiny_model(folder / "model"), write_conversations(folder / "rows.jsonl"), folder)


def _eight_steps(sft: Runner, **values: Any) -> Run:
    return sft(max_steps=STEPS, save_steps=SAVED, **{"per_device_train_batch_size": 4, **values})


def test_training_goes_on_at_another_number_of_workers_and_stage(ray_here: None, sft: Runner):
    first = _eight_steps(sft, deepspeed="zero2").folder / "checkpoint-2"
    second = _eight_steps(sft, **ON_TWO, deepspeed="zero3", resume=str(first))
    third = _eight_steps(sft, deepspeed="none", resume=str(second.folder / "checkpoint-6"))
    unbroken = _eight_steps(sft).weights
    for rest, begin in ((second, 2), (third, 6)):
        assert rest.column("step") == [*range(begin + 1, STEPS + 1)]
        assert distance(rest.weights, unbroken) < 1e-5


def test_shards_storage_and_figures_under_ray_are_those_of_one_process(
    ray_here: None, sft: Runner, tmp_path: Path
):
    there = tmp_path / "there"
    alone = _eight_steps(sft, streaming=True)
    spread = sft.fresh(
        max_steps=STEPS,
        save_steps=SAVED,
        streaming=True,
        storage_path=f"file://{there}",
        report_to=["tensorboard"],
        **ON_TWO,
    )
    assert distance(spread.weights, alone.weights) < 1e-5
    assert distance(read_weights(there), spread.weights) == 0.0
    assert read_metrics(there / "metrics.jsonl") == spread.lines
    assert _tensorboard(spread.folder, "loss") == pytest.approx(spread.column("loss"), abs=1e-6)


def _tensorboard(folder: Path, name: str) -> list[float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    (tag,) = (tag for tag in events.Tags()["scalars"] if tag.rsplit("/", 1)[-1] == name)
    return [event.value for event in events.Scalars(tag)]
