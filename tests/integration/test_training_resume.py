"""Killed at any step, a run goes on to the same weights, bit for bit; without room it says so and ends."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

pytest.importorskip("torch")

from ray_jobs_of_tests import Job, befalling, ray_cluster, steps_done, train_workers, words_of

from autoalign.cli.main import main
from autoalign.training.metrics import read_metrics
from tests.compare import same_tensors
from tests.tiny import save_tiny_model, write_conversations

pytestmark = pytest.mark.slow

STEPS = 120
LOCAL = {"launcher": "local"}


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What all runs share: float32, one worker, dropout on, a checkpoint every 10 steps."""
    folder = tmp_path_factory.mktemp("inputs")
    return {
        "model_name_or_path": save_tiny_model(folder / "model"),
        "data_path": write_conversations(folder / "rows.jsonl"),
        "cache_dir": folder / "cache",
        "conv_template_name": "chatml",
        "max_steps": STEPS,
        "save_steps": 10,
        "learning_rate": 1e-3,
        "bf16": "false",
        "cpus_per_worker": 1,
    }


@pytest.fixture(scope="module")
def unbroken(flags: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("unbroken") / "out"
    assert main(words_of({**flags, **LOCAL}, output)) == 0
    return output


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    with ray_cluster(cpus=2):
        yield


def test_sigterm_saves_and_ends_with_3(flags, unbroken: Path, tmp_path: Path, capsys):
    job = Job.start({**flags, **LOCAL}, tmp_path / "out")
    job.wait_for_step(15)
    job.process.send_signal(signal.SIGTERM)
    code, stderr = job.end()
    assert code == 3, stderr
    stopped_at = steps_done(job.output)
    assert (job.output / f"checkpoint-{stopped_at}").is_dir()
    assert main(words_of({**flags, **LOCAL}, job.output)) == 0
    assert f"(step {stopped_at} of {STEPS})" in capsys.readouterr().err
    assert same_tensors(unbroken, job.output)


def test_of_a_killed_process_a_torn_checkpoint_gives_way_to_the_one_before(
    flags, unbroken: Path, tmp_path: Path, capsys
):
    job = Job.start({**flags, **LOCAL}, tmp_path / "out")
    job.wait_for_step(45)
    job.process.kill()
    job.end()
    assert not (job.output / "model.safetensors").exists()
    newest, before = sorted(job.output.glob("checkpoint-*"), key=lambda p: -int(p.name.split("-")[1]))[:2]
    weights = newest / "trainer" / "state-00001.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert main(words_of({**flags, **LOCAL, "resume": "auto"}, job.output)) == 0
    said = capsys.readouterr().err
    assert f"{newest} is damaged" in said
    assert f"going on from {before}" in said
    assert same_tensors(unbroken, job.output)
    assert [row["step"] for row in read_metrics(job.output / "metrics.jsonl")] == [*range(1, STEPS + 1)]


def test_a_finished_run_is_left_as_it_is(flags, unbroken: Path, capsys):
    before = (unbroken / "model.safetensors").stat().st_mtime_ns
    assert main(words_of({**flags, **LOCAL}, unbroken)) == 0
    assert "nothing to do" in capsys.readouterr().err
    assert (unbroken / "model.safetensors").stat().st_mtime_ns == before


def _kill_the_worker() -> None:
    (worker,) = train_workers(psutil.Process().children(recursive=True))
    os.kill(worker.pid, signal.SIGKILL)


def test_a_killed_ray_worker_is_replaced_as_often_as_allowed_and_the_job_resumes_to_the_same_weights(
    ray_here: None, flags, unbroken: Path, tmp_path: Path, capsys
):
    output = tmp_path / "out"
    with befalling(output, 23, _kill_the_worker), befalling(output, 64, _kill_the_worker):
        assert main(words_of({**flags, "max_failures": 1}, output)) == 1
    said = capsys.readouterr().err
    assert "starting again (failure 1 of 1 allowed)" in said
    assert "go on from the last checkpoint" in said
    assert main(words_of({**flags, **LOCAL, "resume": "auto"}, output)) == 0
    assert "going on from" in capsys.readouterr().err
    assert same_tensors(unbroken, output)
    assert json.loads((output / "run.json").read_text())["report"]["steps"] == STEPS


def test_what_is_missing_is_said_until_schedule_timeout(ray_here: None, flags, tmp_path: Path, capsys):
    asked = {"num_workers": 2, "cpus_per_worker": 2, "schedule_timeout": 6}
    assert main(words_of({**flags, **asked}, tmp_path / "out")) == 1
    said = capsys.readouterr().err
    assert "2 worker(s) of 2 CPU asked, room for 1. CPU: 4 asked, 2 free, 2 in all" in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()
