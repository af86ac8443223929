"""A worker that hangs or is told to go, and a driver killed outright: the job goes on, or leaves nothing."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest

pytest.importorskip("torch")

from ray_jobs_of_tests import Job

from autoalign.training.metrics import read_metrics
from tests.tiny import save_tiny_model, write_conversations

pytestmark = pytest.mark.slow

STEPS = 200


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Two workers of a cluster of the job's own, a checkpoint every 10 steps, one failure allowed."""
    folder = tmp_path_factory.mktemp("inputs")
    return {
        "model_name_or_path": save_tiny_model(folder / "model"),
        "data_path": write_conversations(folder / "rows.jsonl"),
        "cache_dir": folder / "cache",
        "conv_template_name": "chatml",
        "max_steps": STEPS,
        "save_steps": 10,
        "bf16": "false",
        "num_workers": 2,
        "cpus_per_worker": 1,
        "max_failures": 1,
    }


def _start(flags: dict[str, object], output: Path) -> Job:
    # Ray's default of 15 would let anything else on the machine go before its workers.
    return Job.start(flags, output, RAY_worker_niceness="0")


def test_a_hang_is_noticed_its_stacks_are_written_and_the_job_goes_on(flags, tmp_path: Path):
    job = _start({**flags, "hang_timeout": 8}, tmp_path / "out")
    job.wait_for_step(15)
    job.workers()[0].suspend()
    code, stderr = job.end()
    assert code == 0, stderr
    assert "no worker moved for" in stderr
    # A machine with other work may take the next start for a hang too.
    folder = min((job.output / "stacks").iterdir())
    stacks = [(folder / f"rank-{rank}.txt").read_text() for rank in (0, 1)]
    assert sorted("It did not answer" in text for text in stacks) == [False, True]
    assert any("train_step" in text for text in stacks)
    assert [row["step"] for row in read_metrics(job.output / "metrics.jsonl")] == [*range(1, STEPS + 1)]


def test_a_worker_told_to_end_has_the_job_saved_and_started_again(flags, tmp_path: Path):
    job = _start(flags, tmp_path / "out")
    job.wait_for_step(15)
    job.workers()[0].send_signal(signal.SIGTERM)
    code, stderr = job.end()
    assert code == 0, stderr
    assert "was told to end (SIGTERM)" in stderr
    assert "starting again (failure 1 of 1 allowed)" in stderr
    assert [row["step"] for row in read_metrics(job.output / "metrics.jsonl")] == [*range(1, STEPS + 1)]


def test_of_a_driver_killed_outright_nothing_is_left(flags, tmp_path: Path):
    job = _start({**flags, "max_steps": 100_000, "save_steps": 1000}, tmp_path / "out")
    job.wait_for_step(5)
    family = job.family()
    job.workers()[0].suspend()
    job.process.kill()
    job.process.wait()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive
