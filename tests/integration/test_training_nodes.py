"""Two raylets on this machine: a node dies, or is about to be taken away, and training goes on."""

from __future__ import annotations

import io
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from ray_jobs_of_tests import befalling, words_of

from autoalign.cli.main import main
from autoalign.training.metrics import read_metrics
from tests.sft_runs import distance, read_weights
from tests.tiny import save_tiny_model, write_conversations

pytestmark = pytest.mark.slow

ROWS, STEPS, MANY = 24, 30, 1500
RECORDER = Path(__file__).parent / "recorder"
NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}


class Machines:
    """A head and one more node, with 1 CPU each; nothing else runs on them."""

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self.address: str = cluster.address
        self._second = cluster.add_node(**NODE)

    def lose_one(self) -> None:
        """Kill the second node's raylet, and its workers with it."""
        self._cluster.remove_node(self._second, allow_graceful=False)

    def add_one(self) -> None:
        """Another second node."""
        self._second = self._cluster.add_node(**NODE)

    def drain_one(self) -> None:
        """Tell the cluster that the second node goes in a minute, as a cloud does of a spot instance."""
        from ray._raylet import GcsClient
        from ray.core.generated import autoscaler_pb2

        reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        until = time.time_ns() // 1_000_000 + 60_000
        accepted, why = GcsClient(address=self.address).drain_node(
            self._second.node_id, reason, "spot", until
        )
        assert accepted, why


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("record")


@pytest.fixture(scope="module")
def machines(record: Path) -> Iterator[Machines]:
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:  # for the nodes' workers alone
        patch.setenv("RECORD_BATCHES", str(record))
        patch.setenv("PYTHONPATH", str(RECORDER), prepend=":")
        patch.setenv("RAY_BACKEND_LOG_LEVEL", "fatal")
        # Ray's default of 15 would let anything else on the machine go before its workers.
        patch.setenv("RAY_worker_niceness", "0")
        # A raylet that was killed is given up after 2 seconds, in place of Ray's 15.
        patch.setenv("RAY_health_check_period_ms", "500")
        patch.setenv("RAY_health_check_failure_threshold", "4")
        cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
        machines = Machines(cluster)
    try:
        yield machines
    finally:
        cluster.shutdown()


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Float32, 2 rows a worker and step of 2 workers, a checkpoint every 4 steps."""
    folder = tmp_path_factory.mktemp("inputs")
    return {
        "model_name_or_path": save_tiny_model(folder / "model"),
        "data_path": write_conversations(folder / "rows.jsonl", ROWS),
        "cache_dir": folder / "cache",
        "conv_template_name": "chatml",
        "max_steps": STEPS,
        "save_steps": 4,
        "learning_rate": 1e-3,
        "bf16": "false",
        "per_device_train_batch_size": 2,
        "cpus_per_worker": 1,
    }


@pytest.fixture(scope="module")
def unbroken(flags: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("unbroken") / "out"
    alone = {**flags, "launcher": "local", "gradient_accumulation_steps": 2}
    assert main(words_of(alone, output)) == 0
    return output


@pytest.fixture(scope="module")
def survivor(
    flags: dict[str, object],
    machines: Machines,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A job of 2 workers that lost one of its 2 nodes in its second epoch, and went on."""
    output = tmp_path_factory.mktemp("survivor") / "out"
    elastic = {**flags, "num_workers": "1:2", "max_failures": 1}
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(said):
        patch.setenv("RAY_ADDRESS", machines.address)
        with befalling(output, 9, machines.lose_one):
            assert main(words_of(elastic, output)) == 0
    assert "starting again (failure 1 of 1 allowed)" in said.getvalue()
    assert "1 worker(s) of 2" in said.getvalue()
    return output


@pytest.fixture(scope="module")
def seen(survivor: Path, record: Path) -> list[dict[str, Any]]:
    """What each worker of that job said of its batches."""
    return [json.loads(line) for path in record.glob("*.jsonl") for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def drained(
    seen: list[dict[str, Any]],
    flags: dict[str, object],
    machines: Machines,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, str]:
    """A job of 2 workers, one of whose nodes is to be taken away; and what it said."""
    from autoalign.training import ray_attempt

    output = tmp_path_factory.mktemp("drained") / "out"
    # Steps of a tiny model are quick: enough of them to be at work still when the cluster's word arrives,
    # and workers that say twice a second where they are.
    elastic = {**flags, "max_steps": MANY, "save_steps": MANY, "hang_timeout": 10}
    elastic |= {"num_workers": "1:2", "max_failures": 1}
    said = io.StringIO()
    machines.add_one()
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(said):
        patch.setenv("RAY_ADDRESS", machines.address)
        patch.setattr(ray_attempt, "_DRAIN_POLL", 0.1)
        with befalling(output, 5, machines.drain_one):
            assert main(words_of(elastic, output)) == 0
    return output, said.getvalue()


def test_with_a_node_killed_training_ends_with_the_unbroken_weights(survivor: Path, unbroken: Path):
    assert distance(read_weights(unbroken), read_weights(survivor)) < 1e-5


def test_with_a_node_killed_every_example_is_seen_as_often_as_in_an_unbroken_run(seen: list[dict[str, Any]]):
    lines = seen
    assert {line["workers"] for line in lines} == {1, 2}
    again = min(line["step"] for line in lines if line["workers"] == 1)
    counted = [line for line in lines if (line["workers"] == 2) == (line["step"] < again)]
    # 4 rows a step: 5 whole passes over 24 rows in 30 steps.
    assert Counter(row for line in counted for row in line["rows"]) == dict.fromkeys(range(ROWS), 5)
    for epoch in range(5):
        steps = range(6 * epoch + 1, 6 * epoch + 7)
        assert sorted(row for line in counted if line["step"] in steps for row in line["rows"]) == [
            *range(ROWS)
        ]


def test_a_job_saves_and_moves_before_its_node_is_taken_away(drained: tuple[Path, str]):
    output, said = drained
    assert "is being taken away; stopped at step" in said
    assert "starting again (failure 1 of 1 allowed)" in said
    # Nothing was lost: the second attempt begins at the step where the first one stopped.
    stopped = int(said.split("taken away; stopped at step ")[1].split()[0])
    assert f"(step {stopped} of {MANY})" in said
    assert [row["step"] for row in read_metrics(output / "metrics.jsonl")] == [*range(1, MANY + 1)]
