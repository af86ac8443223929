"""A worker that hangs or is told to go, and a driver killed outright: the job goes on, or leaves nothing."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

pytest.importorskip("torch")

from ray_jobs_of_tests import Job, steps_done

from autoalign.training.metrics import read_metrics
from tests.tiny import save_tiny_model, write_conversations

pytestmark = pytest.mark.slow

MORE = 30  # steps after a fault that show that the job goes on


class Life(NamedTuple):
    """What a job said in its life, and what was left after it."""

    output: Path
    stderr: str
    left: list[psutil.Process]


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Life:
    """Two workers of a cluster of the job's own; one is stopped, one told to end, then the driver killed."""
    folder = tmp_path_factory.mktemp("faults")
    flags: dict[str, object] = {
        "model_name_or_path": save_tiny_model(folder / "model"),
        "data_path": write_conversations(folder / "rows.jsonl"),
        "cache_dir": folder / "cache",
        "conv_template_name": "chatml",
        "max_steps": 100_000,
        "save_steps": 10,
        "save_total_limit": 2,
        "bf16": "false",
        "num_workers": 2,
        "cpus_per_worker": 1,
        # A machine with other work may take a start for a hang too.
        "max_failures": 5,
        "hang_timeout": 8,
    }
    job = Job.start(flags, folder / "out")
    job.wait_for_step(15)
    job.workers()[0].suspend()
    _wait_for_new_steps(job)
    job.workers()[0].send_signal(signal.SIGTERM)
    _wait_for_new_steps(job)
    family = job.family()
    job.workers()[0].suspend()
    job.process.kill()
    _, stderr = job.end()
    _, left = psutil.wait_procs(family, timeout=60)
    return Life(job.output, stderr, left)


def _wait_for_new_steps(job: Job) -> None:
    """Until other workers than those of now have made steps."""
    before = {worker.pid for worker in job.workers()}
    job.wait(lambda: (now := {worker.pid for worker in job.workers()}) != set() and not now & before)
    job.wait_for_step(steps_done(job.output) + MORE)


def test_a_hang_is_noticed_and_its_stacks_are_written(life: Life):
    assert "no worker moved for" in life.stderr
    folder = min((life.output / "stacks").iterdir())
    stacks = [(folder / f"rank-{rank}.txt").read_text() for rank in (0, 1)]
    assert sorted("It did not answer" in text for text in stacks) == [False, True]
    # The other worker waits for it in the loop: in a step, or where a checkpoint is written together.
    assert any("training/loop.py" in text for text in stacks)


def test_a_worker_told_to_end_has_the_job_saved_and_started_again(life: Life):
    assert "was told to end (SIGTERM)" in life.stderr
    assert "starting again (failure" in life.stderr.partition("(SIGTERM)")[2]


def test_the_job_goes_on_at_the_step_it_had_saved(life: Life):
    steps = [row["step"] for row in read_metrics(life.output / "metrics.jsonl")]
    assert steps == [*range(1, len(steps) + 1)]


def test_of_a_driver_killed_outright_nothing_is_left(life: Life):
    assert not life.left
