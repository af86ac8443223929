"""`ray job submit --working-dir .` against a local head with token authentication."""

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
RAY = Path(sys.executable).with_name("ray")
UPLOAD_LIMIT = 20_000_000  # bytes

# Run by the job: what was uploaded, and where the driver and a Ray worker find the package.
LOOK_AROUND = """
import json, pathlib, sys
sys.path.insert(0, str(pathlib.Path.cwd()))
import ray, autoalign
ray.init()
there = [path for path in pathlib.Path.cwd().rglob("*") if path.is_file()]
@ray.remote(num_cpus=1)
def found():
    import autoalign
    return autoalign.__file__
print("SEEN:" + json.dumps({
    "cwd": str(pathlib.Path.cwd()),
    "names": sorted(path.name for path in pathlib.Path.cwd().iterdir()),
    "bytes": sum(path.stat().st_size for path in there),
    "driver": autoalign.__file__,
    "worker": ray.get(found.remote()),
}))
"""


class Head(NamedTuple):
    """A running head: its dashboard's address and the environment of those who may use it."""

    address: str
    env: dict[str, str]


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [str(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def wait_until_up(address, token, process, seconds=90):
    request = urllib.request.Request(f"{address}/api/version", headers={"Authorization": f"Bearer {token}"})
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, f"ray start ended with {process.returncode}"
        try:
            with urllib.request.urlopen(request, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail(f"no dashboard at {address} after {seconds} s")


def end_with_children(process):
    """End what this module started and nothing else: `ray stop` would end every cluster of the machine."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.terminate()
    _, alive = psutil.wait_procs(family, timeout=3)
    for member in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait(timeout=10)


@pytest.fixture(scope="module")
def head():
    """A cluster of this module alone, on ports and in folders of its own."""
    folder = Path(tempfile.mkdtemp(prefix="aa-ray-"))  # short: Ray puts sockets into it
    token = secrets.token_hex(32)
    (folder / "token").write_text(token)
    (folder / "token").chmod(0o600)
    gcs, dashboard, agent, client = free_ports(4)
    env = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "token")}
    env |= {"PATH": f"{RAY.parent}:{env['PATH']}", "RAY_USAGE_STATS_ENABLED": "0"}
    flags = f"--head --block --num-cpus=3 --object-store-memory=200000000 --port={gcs} --temp-dir={folder}"
    flags += f" --dashboard-port={dashboard} --dashboard-agent-listen-port={agent}"
    flags += f" --ray-client-server-port={client}"
    with (folder / "start.log").open("w") as log:
        process = subprocess.Popen([RAY, "start", *flags.split()], env=env, stdout=log, stderr=log)
    try:
        wait_until_up(f"http://127.0.0.1:{dashboard}", token, process)
        yield Head(f"http://127.0.0.1:{dashboard}", env)
    finally:
        end_with_children(process)
        shutil.rmtree(folder, ignore_errors=True)


def submit(head, *entrypoint, env=None):
    command = [RAY, "job", "submit", "--working-dir", ".", "--address", head.address, "--", *entrypoint]
    return subprocess.run(command, cwd=ROOT, env=env or head.env, capture_output=True, text=True, timeout=400)


def test_models_and_environments_stay_here_and_the_package_goes_along(head):
    done = submit(head, "python", "-c", LOOK_AROUND)
    assert done.returncode == 0, done.stdout + done.stderr
    line = next(line for line in done.stdout.splitlines() if "SEEN:{" in line)
    seen = json.loads(line.partition("SEEN:")[2])
    assert {"autoalign", "configs", "data", "ray_jobs", "pyproject.toml"} <= set(seen["names"])
    assert not {"models", "outputs", "logs", ".git", ".venv", ".venv-eval", "shared"} & set(seen["names"])
    assert seen["bytes"] < UPLOAD_LIMIT
    # Not the installed package: the one that was uploaded, for the driver and for every worker.
    assert seen["driver"].startswith(seen["cwd"])
    assert "working_dir_files" in seen["worker"]


def test_without_the_token_the_cluster_says_no(head):
    env = {**head.env, "RAY_AUTH_MODE": "disabled"}
    done = submit(head, "true", env=env)
    assert done.returncode != 0
    assert "token authentication is enabled" in done.stderr


def test_wrong_input_fails_the_job_with_its_message(head):
    done = submit(head, "python", "ray_jobs/sft.py", "--learning_rat", "1")
    assert done.returncode != 0
    assert "unknown flag '--learning_rat' (did you mean '--learning_rate'?)" in done.stdout + done.stderr


@pytest.fixture(scope="module")
def tiny_model(demo_model, tmp_path_factory):
    """A random two-layer model with the demo model's tokenizer."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("tiny") / "tiny-llama"
    config = transformers.AutoConfig.from_pretrained(demo_model)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    config.update({**small, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16})
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(demo_model).save_pretrained(folder)
    return folder


def test_sft_runs_on_the_cluster(head, tiny_model, tmp_path):
    flags = f"--model_name_or_path {tiny_model} --data_path data/dummy_sft.json --output_dir {tmp_path}/out"
    flags += " --max_steps 2 --model_max_length 256 --per_device_train_batch_size 2 --bf16 false"
    done = submit(head, "python", "ray_jobs/sft.py", *flags.split(), "--cache_dir", str(tmp_path / "cache"))
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    steps = [json.loads(line)["step"] for line in (tmp_path / "out" / "metrics.jsonl").open()]
    assert steps[:2] == [1, 2]
    assert (tmp_path / "out" / "model.safetensors").is_file()
