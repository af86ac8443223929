"""A checkpoint goes on with other workers and another ZeRO stage; shards, storage and figures under Ray."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from autoalign.training.metrics import read_metrics  # noqa: E402
from tests.sft_runs import Run, Runner, distance, read_weights  # noqa: E402
from tests.tiny import save_tiny_model, write_conversations  # noqa: E402

pytestmark = pytest.mark.slow

STEPS, SAVED = 8, 4
ON_TWO = {"launcher": "ray", "num_workers": 2, "cpus_per_worker": 1, "per_device_train_batch_size": 2}


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    import ray

    with pytest.MonkeyPatch.context() as patch:
        # Ray's default of 15 would let anything else on the machine go before its workers.
        patch.setenv("RAY_worker_niceness", "0")
        # Logical CPUs: two workers, and the actors that tokenise and hand out shards beside them.
        ray.init(address="local", num_cpus=6, include_dashboard=False, object_store_memory=100 << 20)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def sft(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    folder = tmp_path_factory.mktemp("resume")
    return Runner(save_tiny_model(folder / "model"), write_conversations(folder / "rows.jsonl"), folder)


def _eight_steps(sft: Runner, **values: Any) -> Run:
    return sft(max_steps=STEPS, save_steps=SAVED, **{"per_device_train_batch_size": 4, **values})


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"deepspeed": "zero2"}, {**ON_TWO, "deepspeed": "zero3"}),
        ({**ON_TWO, "deepspeed": "zero3"}, {"deepspeed": "none"}),
    ],
    ids=["zero2 on 1 to zero3 on 2", "zero3 on 2 to none on 1"],
)
def test_training_goes_on_at_another_number_of_workers_and_stage(
    ray_here: None, sft: Runner, before: dict[str, Any], after: dict[str, Any]
):
    checkpoint = _eight_steps(sft, **before).folder / f"checkpoint-{SAVED}"
    rest = _eight_steps(sft, **after, resume=str(checkpoint))
    assert rest.column("step") == [*range(SAVED + 1, STEPS + 1)]
    assert distance(rest.weights, _eight_steps(sft).weights) < 1e-5


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
