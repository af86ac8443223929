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
from autoalign.jobs.watcher import Watcher
from tests import ray_head
from tests.platforms import ALICE, look, open_platform
from tests.tiny import save_tiny_model, write_conversations

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]

# An API process as far as jobs go: it starts those that wait, and follows them until it is killed.
API = """
import sys, time
from pathlib import Path
from autoalign.jobs.runners.ray import RayRunner
from autoalign.jobs.watcher import Watcher
from tests.platforms import open_platform
Watcher(open_platform(Path(sys.argv[1]), RayRunner(sys.argv[2])), every=0.2).start()
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


def test_a_job_outlives_the_api_process_that_started_it(head, folder):
    defaults = {"sft": {"cache_dir": str(folder / "cache")}}
    platform = open_platform(folder, RayRunner(head.address), defaults=defaults)
    job = platform.submit(ALICE, order(max_steps=12))
    api = subprocess.Popen(
        [sys.executable, "-c", API, str(folder), head.address], cwd=ROOT, env={**os.environ}
    )
    try:
        wait(lambda: platform.folder(job.id).has_started(f"{job.id}-1"))
    finally:
        api.send_signal(signal.SIGKILL)
        api.wait()
    watcher = Watcher(platform, every=0.2)
    watcher.start()
    wait(lambda: platform.is_over(job.id))
    watcher.stop()
    job = look(platform, job)
    assert (job.state, job.attempt, job.message) == ("succeeded", 1, ""), job.log_tail
    assert [row.step for row in platform.jobs.metrics(job.id)][:12] == list(range(1, 13))
    assert (Path(platform.models.get(job.model_id, ALICE).path) / "model.safetensors").is_file()
    assert "done: 12 steps" in job.log_tail


@pytest.mark.parametrize("where", ["ray", "local"])
def test_cancel_leaves_no_process_and_the_last_checkpoint(request, folder, where):
    runner = LocalRunner() if where == "local" else RayRunner(request.getfixturevalue("head").address)
    platform = open_platform(folder, runner, defaults={"sft": {"cache_dir": str(folder / "cache")}})
    job = platform.submit(ALICE, order(max_steps=100_000, save_total_limit=2))
    watcher = Watcher(platform, every=0.2)
    watcher.start()
    try:
        wait(lambda: any(row.step >= 1 for row in platform.jobs.artefacts(job.id, "checkpoint")))
        assert processes_of(platform.folder(job.id).path)
        asked = time.monotonic()
        platform.cancel(look(platform, job))
        wait(lambda: platform.is_over(job.id), seconds=30)
        wait(lambda: not processes_of(platform.folder(job.id).path), seconds=30 - (time.monotonic() - asked))
    finally:
        watcher.stop()
    job = look(platform, job)
    assert job.state == "cancelled"
    (checkpoint, *_) = reversed(platform.jobs.artefacts(job.id, "checkpoint"))
    assert (platform.folder(job.id).out / checkpoint.name / "model.safetensors").is_file()


def test_a_paused_job_goes_on_from_its_checkpoint(folder):
    platform = open_platform(folder, LocalRunner(), defaults={"sft": {"cache_dir": str(folder / "cache")}})
    job = platform.submit(ALICE, order(max_steps=400, save_steps=20))
    watcher = Watcher(platform, every=0.1)
    watcher.start()
    try:
        wait(lambda: platform.jobs.artefacts(job.id, "checkpoint"))
        platform.pause(look(platform, job))
        wait(lambda: look(platform, job).state == "paused")
        done = platform.jobs.metrics(job.id)[-1].step
        platform.resume(look(platform, job))
        wait(lambda: platform.is_over(job.id))
    finally:
        watcher.stop()
    job = look(platform, job)
    assert (job.state, job.attempt) == ("succeeded", 2), job.log_tail
    assert 0 < done < 400
    assert "esum" in job.log_tail
