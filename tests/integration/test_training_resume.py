"""Killed at any step, a run goes on to the same weights, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch")

import psutil

from autoalign.training.metrics import read_metrics
from tests.compare import same_tensors
from tests.tiny import save_tiny_model, write_conversations

pytestmark = pytest.mark.slow

STEPS = 120


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Flags that all runs share: float32, one worker, dropout on, a checkpoint every 10 steps."""
    folder = tmp_path_factory.mktemp("inputs")
    model = save_tiny_model(folder / "model")
    data = write_conversations(folder / "rows.jsonl")
    flags = {
        "model_name_or_path": model,
        "data_path": data,
        "conv_template_name": "chatml",
        "max_steps": STEPS,
        "save_steps": 10,
        "learning_rate": 1e-3,
        "bf16": "false",
        "cpus_per_worker": 1,
    }
    return [part for key, value in flags.items() for part in (f"--{key}", str(value))]


def _start(inputs: list[str], output: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "autoalign.cli", "sft", *inputs, "--output_dir", str(output), *more]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def _finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, stderr = process.communicate(timeout=240)
    return process.returncode, stderr


def _steps_done(output: Path) -> int:
    rows = read_metrics(output / "metrics.jsonl")
    return rows[-1]["step"] if rows else 0


def _wait(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture(scope="module")
def unbroken(inputs: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("unbroken") / "out"
    code, stderr = _finish(_start(inputs, output, "--launcher", "local"))
    assert code == 0, stderr
    return output


@pytest.mark.parametrize("kill_at", [3, 27, 64])
def test_a_killed_process_resumes_to_the_same_weights(inputs, unbroken: Path, tmp_path: Path, kill_at: int):
    output = tmp_path / "out"
    process = _start(inputs, output, "--launcher", "local")
    _wait(lambda: _steps_done(output) >= kill_at, process)
    process.kill()
    _finish(process)
    assert not (output / "model.safetensors").exists()
    code, stderr = _finish(_start(inputs, output, "--launcher", "local", "--resume", "auto"))
    assert code == 0, stderr
    assert same_tensors(unbroken, output)
    assert [row["step"] for row in read_metrics(output / "metrics.jsonl")] == list(range(1, STEPS + 1))


def test_sigterm_saves_and_ends_with_3(inputs, unbroken: Path, tmp_path: Path):
    output = tmp_path / "out"
    process = _start(inputs, output, "--launcher", "local")
    _wait(lambda: _steps_done(output) >= 15, process)
    process.send_signal(signal.SIGTERM)
    code, stderr = _finish(process)
    assert code == 3, stderr
    stopped_at = _steps_done(output)
    assert (output / f"checkpoint-{stopped_at}").is_dir()
    code, stderr = _finish(_start(inputs, output, "--launcher", "local"))
    assert code == 0, stderr
    assert f"(step {stopped_at} of {STEPS})" in stderr
    assert same_tensors(unbroken, output)


def test_a_torn_checkpoint_gives_way_to_the_one_before(inputs, unbroken: Path, tmp_path: Path):
    output = tmp_path / "out"
    process = _start(inputs, output, "--launcher", "local")
    _wait(lambda: _steps_done(output) >= 45, process)
    process.kill()
    _finish(process)
    newest, before = sorted(output.glob("checkpoint-*"), key=lambda p: -int(p.name.split("-")[1]))[:2]
    weights = newest / "trainer" / "state-00001.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    code, stderr = _finish(_start(inputs, output, "--launcher", "local"))
    assert code == 0, stderr
    assert f"{newest} is damaged" in stderr
    assert f"going on from {before}" in stderr
    assert same_tensors(unbroken, output)


def test_a_finished_run_is_left_as_it_is(inputs, unbroken: Path):
    before = (unbroken / "model.safetensors").stat().st_mtime_ns
    code, stderr = _finish(_start(inputs, unbroken, "--launcher", "local"))
    assert code == 0
    assert "nothing to do" in stderr
    assert (unbroken / "model.safetensors").stat().st_mtime_ns == before


def _ray_workers(driver: subprocess.Popen[str]) -> list[psutil.Process]:
    """The driver's own RayTrainWorker processes: children of the raylet that it started."""
    family = psutil.Process(driver.pid).children(recursive=True)
    return [process for process in family if "RayTrainWorker" in " ".join(process.cmdline())]


def test_a_killed_ray_worker_resumes_to_the_same_weights(inputs, unbroken: Path, tmp_path: Path):
    output = tmp_path / "out"
    process = _start(inputs, output)
    _wait(lambda: _steps_done(output) >= 23, process)
    (worker,) = _ray_workers(process)
    os.kill(worker.pid, signal.SIGKILL)
    code, stderr = _finish(process)
    assert code == 1, stderr
    assert "go on from the last checkpoint" in stderr
    code, stderr = _finish(_start(inputs, output, "--resume", "auto"))
    assert code == 0, stderr
    assert "going on from" in stderr
    assert same_tensors(unbroken, output)


def test_a_killed_ray_worker_is_replaced_when_failures_are_allowed(inputs, unbroken: Path, tmp_path: Path):
    output = tmp_path / "out"
    process = _start(inputs, output, "--max_failures", "1")
    _wait(lambda: _steps_done(output) >= 23, process)
    (worker,) = _ray_workers(process)
    os.kill(worker.pid, signal.SIGKILL)
    code, stderr = _finish(process)
    assert code == 0, stderr
    assert same_tensors(unbroken, output)


def test_two_workers_equal_one(inputs, unbroken: Path, tmp_path: Path):
    import torch
    from safetensors.torch import load_file

    output = tmp_path / "out"
    code, stderr = _finish(_start(inputs, output, "--num_workers", "2", "--per_device_train_batch_size", "2"))
    assert code == 0, stderr
    one, two = (load_file(folder / "model.safetensors") for folder in (unbroken, output))
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=1e-5, rtol=1e-5)
    assert json.loads((output / "run.json").read_text())["report"]["steps"] == STEPS
