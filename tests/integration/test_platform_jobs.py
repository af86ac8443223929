"""Real training jobs of the tiny model on a platform: through Ray Jobs, and as processes of this machine."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from autoalign.jobs.platform import Order
from autoalign.jobs.runners.local import LocalRunner
from autoalign.jobs.runners.ray import RayRunner
from autoalign.jobs.settings import Limits
from autoalign.jobs.watcher import Watcher
from tests import ray_head
from tests.patient_job import PatientRunner
from tests.platforms import ALICE, look, open_platform
from tests.tiny import save_tiny_model, write_conversations

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]

# An API process as far as jobs go: it starts those that wait, and follows them until it is killed.
API = """
import sys, time
from pathlib import Path
from autoalign.jobs.runners.ray import RayRunner
from autoalign.jobs.settings import Limits
from autoalign.jobs.watcher import Watcher
from tests.patient_job import PatientRunner
from tests.platforms import open_platform
runner = (PatientRunner if "patient" in sys.argv else RayRunner)(sys.argv[2])
Watcher(open_platform(Path(sys.argv[1]), runner, Limits(jobs=5, jobs_per_user=5)), every=0.2).start()
time.sleep(600)
"""


@pytest.fixture(scope="module")
def head():
    with ray_head.running_head() as running, pytest.MonkeyPatch.context() as patch:
        for name, value in running.env.items():
            if name.startswith("RAY_AUTH"):
                patch.setenv(name, value)
        yield running


@pytest.fixture
def folder(tmp_path):
    save_tiny_model(tmp_path / "roots" / "base")
    write_conversations(tmp_path / "roots" / "rows.jsonl")
    yield tmp_path
    for process in processes_of(tmp_path):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def ray_runner(head, make=RayRunner):
    """It names its token: other test modules' clusters have been in this process."""
    return make(head.address, {"Authorization": f"Bearer {head.token}"})


def order(**values):
    """Short in float32, without Ray Train."""
    common = {"model_name_or_path": "base", "data_path": ["rows.jsonl"], "conv_template_name": "chatml"}
    return Order("sft", {**common, "bf16": False, "launcher": "local", "save_steps": 1, **values})


def processes_of(folder):
    """Jobs' processes name their folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if str(folder) in " ".join(process.cmdline()) and process.pid != os.getpid():
                found.append(process)
    return found


def wait(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.2)


@contextlib.contextmanager
def api_process(head, folder, *words):
    """It is killed at the block's end."""
    command = [sys.executable, "-c", API, str(folder), head.address, *words]
    api = subprocess.Popen(command, cwd=ROOT, env={**os.environ})
    try:
        yield
    finally:
        api.send_signal(signal.SIGKILL)
        api.wait()


def test_a_job_outlives_the_api_process_that_started_it(head, folder):
    defaults = {"sft": {"cache_dir": str(folder / "cache")}}
    platform = open_platform(folder, ray_runner(head), defaults=defaults)
    job = platform.submit(ALICE, order(max_steps=12))
    with api_process(head, folder):
        wait(lambda: platform.folder(job.id).has_started(f"{job.id}-1"))
    watcher = Watcher(platform, every=0.2)
    watcher.start()
    wait(lambda: platform.is_over(job.id))
    watcher.stop()
    job = look(platform, job)
    assert (job.state, job.attempt, job.message) == ("succeeded", 1, ""), job.log_tail
    assert [row.step for row in platform.jobs.metrics(job.id)][:12] == list(range(1, 13))
    assert (Path(platform.models.get(job.model_id, ALICE).path) / "model.safetensors").is_file()
    assert "done: 12 steps" in job.log_tail


@contextlib.contextmanager
def running_without_end(platform):
    """A job that has saved its first checkpoint and would go on for hours, and what looks after it."""
    job = platform.submit(ALICE, order(max_steps=100_000, save_total_limit=2))
    watcher = Watcher(platform, every=0.2)
    watcher.start()
    try:
        wait(lambda: platform.jobs.artefacts(job.id, "checkpoint"))
        assert processes_of(platform.folder(job.id).path)
        yield job
    finally:
        watcher.stop()


def cancel(platform, job):
    """Cancel it; within 30 seconds it has ended, no process is left, and its last checkpoint is whole."""
    asked = time.monotonic()
    platform.cancel(look(platform, job))
    folder = platform.folder(job.id)
    wait(lambda: platform.is_over(job.id) and not processes_of(folder.path), seconds=30)
    assert time.monotonic() - asked < 30
    assert look(platform, job).state == "cancelled"
    checkpoint = platform.jobs.artefacts(job.id, "checkpoint")[-1]
    assert (folder.out / checkpoint.name / "model.safetensors").is_file()


def test_cancel_through_ray_leaves_no_process_and_the_last_checkpoint(head, folder):
    defaults = {"sft": {"cache_dir": str(folder / "cache")}}
    platform = open_platform(folder, ray_runner(head), defaults=defaults)
    with running_without_end(platform) as job:
        cancel(platform, job)


def test_a_job_of_this_machine_is_paused_goes_on_and_is_cancelled_by_another_server(folder):
    defaults = {"sft": {"cache_dir": str(folder / "cache")}}
    platform = open_platform(folder, LocalRunner(), defaults=defaults)
    with running_without_end(platform) as job:
        platform.pause(look(platform, job))
        wait(lambda: look(platform, job).state == "paused")
        done = platform.jobs.metrics(job.id, limit=100_000)[-1].step
        platform.resume(look(platform, job))
        wait(lambda: platform.jobs.metrics(job.id, limit=100_000)[-1].step > done)
    assert look(platform, job).attempt == 2
    steps = [row.step for row in platform.jobs.metrics(job.id, limit=100_000)]
    assert steps == list(range(1, len(steps) + 1))
    # Another server knows the process by its command line alone.
    other = open_platform(folder, LocalRunner(), defaults=defaults)
    watcher = Watcher(other, every=0.2, replica=other_replica(platform, job))
    watcher.start()
    try:
        cancel(other, job)
    finally:
        watcher.stop()


def other_replica(platform, job):
    """The first server's lease would hold for some seconds; the other one takes its place."""
    return look(platform, job).watched_by


def five_patient_jobs(head, folder):
    """A platform, its jobs, and their folders."""
    platform = open_platform(folder, ray_runner(head, PatientRunner), Limits(jobs=5, jobs_per_user=5))
    jobs = [platform.submit(ALICE, order()) for _ in range(5)]
    return platform, jobs, [platform.folder(job.id) for job in jobs]


def let_go(folders):
    """The jobs may end."""
    for each in folders:
        (each.path / "go").touch()


def each_succeeded_once(platform, jobs, folders):
    """No job is lost, and none was at work twice: each attempt began once, and the last one alone ended."""
    ended = [look(platform, job) for job in jobs]
    assert [job.state for job in ended] == ["succeeded"] * 5, [job.message for job in ended]
    for job, each in zip(ended, folders, strict=True):
        runs = (each.path / "runs.txt").read_text().split("\n")[:-1]
        assert [line for line in runs if line.startswith("end")] == [f"end {job.run_id}"]
        assert [line for line in runs if line.startswith("begin")] == [
            f"begin {job.id}-{number}" for number in range(1, job.attempt + 1)
        ]
    return [job.attempt for job in ended]


def test_five_jobs_outlive_the_api_process(head, folder):
    platform, jobs, folders = five_patient_jobs(head, folder)
    with api_process(head, folder, "patient"):
        wait(lambda: all(each.is_held() for each in folders))
    let_go(folders)
    watcher = Watcher(platform, every=0.2)
    watcher.start()
    wait(lambda: all(platform.is_over(job.id) for job in jobs))
    watcher.stop()
    assert each_succeeded_once(platform, jobs, folders) == [1] * 5


def test_five_jobs_outlive_the_ray_head(head, folder):
    platform, jobs, folders = five_patient_jobs(head, folder)
    watcher = Watcher(platform, every=0.2, grace=1.0)
    watcher.start()
    wait(lambda: all(each.is_held() for each in folders))
    head.kill()
    let_go(folders)
    head.start()
    wait(lambda: all(platform.is_over(job.id) for job in jobs))
    watcher.stop()
    each_succeeded_once(platform, jobs, folders)
