"""What counts as movement of a worker."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch

from autoalign.training import checkpoint, watchdog
from autoalign.training.checkpoint import Progress
from autoalign.training.storage import connect
from autoalign.training.tensors import write_shards
from autoalign.training.uploads import Uploader

NO_THREAD = 0
"""Its stack is empty at every look: it stands still."""


class Clock:
    """Shows the seconds that a test says."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def _idle_after(work: Callable[[], object]) -> float:
    """What a worker whose training thread waits reports 50 seconds after its start, `work` done meanwhile."""
    clock = Clock()
    movement = watchdog.Movement(NO_THREAD, clock)
    movement.idle()  # a test before may have touched it
    clock.seconds = 50.0
    work()
    return movement.idle()


def test_a_thread_that_stands_is_idle_and_one_that_runs_is_not():
    assert _idle_after(lambda: None) == 50.0
    movement = watchdog.Movement(threading.get_ident())
    movement.idle()
    time.sleep(0.05)
    assert movement.idle() < 0.05  # asked from another line


def test_a_touch_counts_once():
    clock = Clock()
    movement = watchdog.Movement(NO_THREAD, clock)
    clock.seconds = 50.0
    watchdog.touch()
    assert movement.idle() == 0.0
    clock.seconds = 57.0
    assert movement.idle() == 7.0


def _commit(folder: Path) -> Path:
    temporary = checkpoint.begin(folder, "checkpoint-1")
    (temporary / "weights").write_text("1")
    return checkpoint.commit(temporary, Progress(step=1), {})


def test_writing_and_hashing_a_checkpoint_are_movement(tmp_path: Path):
    assert _idle_after(lambda: write_shards(tmp_path, [("w", torch.zeros(2))])) == 0.0
    assert _idle_after(lambda: _commit(tmp_path)) == 0.0


def test_an_upload_that_gets_on_is_movement(tmp_path: Path):
    saved = _commit(tmp_path / "out")
    uploader = Uploader(connect(str(tmp_path / "there")), tmp_path / "out", None, lambda _: None)

    def upload() -> None:
        uploader.submit(saved.name)
        assert uploader.finish(60) is None

    assert _idle_after(upload) == 0.0


@pytest.fixture
def before() -> Iterator[threading.Event]:
    """Set by a SIGTERM that nothing else takes."""
    came = threading.Event()
    kept = signal.signal(signal.SIGTERM, lambda *_: came.set())
    yield came
    signal.signal(signal.SIGTERM, kept)


def _tell_to_end() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_the_first_sigterm_calls_and_the_second_does_what_it_did_before(before: threading.Event):
    told = threading.Event()
    watchdog.on_sigterm(told.set)
    _tell_to_end()
    assert told.wait(5)
    assert not before.is_set()
    _tell_to_end()
    assert before.wait(5)


def test_after_the_end_a_sigterm_does_what_it_did_before(before: threading.Event):
    told = threading.Event()
    watchdog.on_sigterm(told.set)()
    _tell_to_end()
    assert before.wait(5)
    assert not told.is_set()


def test_a_sigterm_between_the_call_and_the_end_does_no_harm(before: threading.Event):
    told = threading.Event()
    end = watchdog.on_sigterm(told.set)
    _tell_to_end()
    assert told.wait(5)
    end()
    _tell_to_end()
    assert before.wait(5)
