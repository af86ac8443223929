"""A job that a cluster has no room for says what is missing, and ends."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from ray_jobs_of_tests import Job

from tests.tiny import save_tiny_model, write_conversations

pytestmark = pytest.mark.slow


def test_what_is_missing_is_said_until_schedule_timeout(tmp_path: Path):
    from ray.cluster_utils import Cluster

    flags = {
        "model_name_or_path": save_tiny_model(tmp_path / "model"),
        "data_path": write_conversations(tmp_path / "rows.jsonl"),
        "cache_dir": tmp_path / "cache",
        "conv_template_name": "chatml",
        "num_workers": 2,
        "cpus_per_worker": 1,
        "schedule_timeout": 7,
    }
    node = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        job = Job.start(flags, tmp_path / "out", RAY_ADDRESS=cluster.address)
        code, stderr = job.end()
    finally:
        cluster.shutdown()
    assert code == 1, stderr
    assert "2 worker(s) of 1 CPU asked, room for 1. CPU: 2 asked, 1 free, 1 in all" in stderr
    assert "Traceback" not in stderr
    assert not (tmp_path / "out").exists()
