"""Real processes of this machine: `score` by length, which needs no model."""

import json
import os
import time

import pytest

from autoalign.jobs.platform import Order
from autoalign.jobs.runners.local import LocalRunner
from autoalign.serving.platform_routes import LivePlatform
from tests.platforms import ALICE, look, open_platform, watcher

ROW = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}
ORDER = Order("score", {"scorer": "length", "data_path": "rows.jsonl"})


@pytest.fixture
def platform(tmp_path):
    platform = open_platform(tmp_path, LocalRunner(patience=5.0))
    (tmp_path / "roots" / "rows.jsonl").write_text(json.dumps(ROW) + "\n")
    return platform


def until(condition, round=lambda: None, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        round()
        time.sleep(0.1)


def test_a_process_leaves_its_results_its_log_and_its_exit_code(platform, monkeypatch):
    monkeypatch.setenv("AUTOALIGN_DATABASE_URL", "postgresql://u:secret@h/d")
    job = platform.submit(ALICE, ORDER)
    until(lambda: platform.is_over(job.id), watcher(platform).round)
    job = look(platform, job)
    assert (job.state, job.exit_code) == ("succeeded", 0), job.log_tail
    (row,) = (platform.folder(job.id).out / "scores.jsonl").open()
    assert json.loads(row)["messages"] == ROW["messages"]
    assert [artefact.name for artefact in platform.jobs.artefacts(job.id)] == ["scores.jsonl"]
    assert "secret" not in job.log_tail


def test_a_wrong_row_fails_the_job_with_its_place(platform, tmp_path):
    (tmp_path / "roots" / "rows.jsonl").write_text('{"messages": 3}\n')
    job = platform.submit(ALICE, ORDER)
    until(lambda: platform.is_over(job.id), watcher(platform).round)
    job = look(platform, job)
    assert (job.state, job.exit_code) == ("failed", 2)
    assert "rows.jsonl:1: messages" in job.message


def test_another_server_finds_a_process_and_ends_it(platform, tmp_path):
    (tmp_path / "roots" / "rows.jsonl").unlink()
    os.mkfifo(tmp_path / "roots" / "rows.jsonl")  # nobody writes: the job waits for its data for ever
    job = platform.submit(ALICE, ORDER)
    watcher(platform).round()
    until(lambda: platform.folder(job.id).has_started(f"{job.id}-1"))
    other = open_platform(tmp_path, LocalRunner(patience=5.0))
    watcher(other).round()
    assert look(other, job).state == "running"
    other.cancel(look(other, job))
    until(lambda: other.is_over(job.id), watcher(other).round)
    assert look(other, job).state == "cancelled"
    assert LocalRunner().status(f"{job.id}-1").phase == "unknown"
    assert not other.folder(job.id).is_held()


def test_a_server_that_ends_stops_its_jobs_and_the_next_one_goes_on_with_them(platform, tmp_path):
    (tmp_path / "roots" / "rows.jsonl").unlink()
    os.mkfifo(tmp_path / "roots" / "rows.jsonl")
    job = platform.submit(ALICE, ORDER)
    first = watcher(platform)
    first.round()
    until(lambda: platform.folder(job.id).has_started(f"{job.id}-1"))
    assert LivePlatform(platform, first).stop_jobs() == 1
    assert not platform.folder(job.id).is_held()
    (tmp_path / "roots" / "rows.jsonl").unlink()
    (tmp_path / "roots" / "rows.jsonl").write_text(json.dumps(ROW) + "\n")
    other = open_platform(tmp_path, LocalRunner(patience=5.0))
    until(lambda: other.is_over(job.id), watcher(other).round)
    job = look(other, job)
    assert (job.state, job.attempt, job.exit_code) == ("succeeded", 2, 0), job.message
