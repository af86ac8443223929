"""cluster.yaml against Ray's own schema, and the promises that docs/cluster.md makes about it."""

import inspect
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cluster():
    return yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))


def test_rays_own_schema_accepts_it(cluster):
    util = pytest.importorskip("ray.autoscaler._private.util")
    util.validate_config(util.prepare_config(cluster))


def test_head_has_no_gpu_and_takes_no_tasks(cluster):
    head = cluster["available_node_types"][cluster["head_node_type"]]
    assert head["resources"] == {"CPU": 0}
    assert re.match(r"[cmr]\d", head["node_config"]["InstanceType"])


def test_gpu_workers_scale_down_to_none(cluster):
    worker = cluster["available_node_types"]["gpu_worker"]
    assert (worker["min_workers"], worker["max_workers"]) == (0, cluster["max_workers"])
    assert re.match(r"[gp]\d", worker["node_config"]["InstanceType"])


def test_every_node_asks_for_the_token_and_has_it(cluster):
    assert "--env RAY_AUTH_MODE=token" in cluster["docker"]["run_options"]
    assert cluster["file_mounts"]["/home/ray/.ray/auth_token"] == "~/.ray/auth_token"
    assert "--dashboard-host=127.0.0.1" in " ".join(cluster["head_start_ray_commands"])


def test_storage_is_mounted_on_the_host_and_seen_in_the_container(cluster):
    assert any(
        "/mnt/cluster" in command and "mount -t nfs4" in command
        for command in cluster["initialization_commands"]
    )
    assert "--volume /mnt/cluster:/mnt/cluster" in cluster["docker"]["run_options"]


def test_nodes_install_the_gpu_lock_and_the_same_ray(cluster):
    lock = (ROOT / "requirements" / "gpu.lock").read_text(encoding="utf-8")
    version = re.search(r"^ray==(\S+)$", lock, re.MULTILINE).group(1)
    assert any("--no-deps" in command and "gpu.lock" in command for command in cluster["setup_commands"])
    assert all(f":{version}-py311-" in cluster["docker"][kind] for kind in ("head_image", "worker_image"))


def test_a_stopped_job_has_the_time_to_save_that_the_commands_ask_for():
    supervisor = pytest.importorskip("ray.dashboard.modules.job.job_supervisor")
    assert '"RAY_JOB_STOP_WAIT_TIME_S"' in inspect.getsource(supervisor)
    submit = "ray job submit --working-dir . "
    asked = submit + """--runtime-env-json '{"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "600"}}' """
    for path in [ROOT / "docs" / "cluster.md", *(ROOT / "ray_jobs").glob("*.py")]:
        text = path.read_text(encoding="utf-8")
        assert text.count(asked) == text.count(submit) == 1, path
