"""`autoalign-cli sft` with the tiny model: as a process of its own, or here beside what befalls it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from autoalign.training.metrics import read_metrics


def words_of(flags: dict[str, object], output: Path) -> list[str]:
    """The command line of `sft` with `flags`."""
    words = [word for key, value in flags.items() for word in (f"--{key}", str(value))]
    return ["sft", *words, "--output_dir", str(output)]


def steps_done(output: Path) -> int:
    """The last step in metrics.jsonl."""
    rows = read_metrics(output / "metrics.jsonl")
    return rows[-1]["step"] if rows else 0


@contextmanager
def befalling(output: Path, step: int, act: Callable[[], None]) -> Iterator[None]:
    """Once a job that runs in the block has logged `step`, `act` is called beside it."""
    is_over, happened = threading.Event(), threading.Event()

    def look() -> None:
        while steps_done(output) < step:
            if is_over.wait(0.02):
                return
        act()
        happened.set()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
    assert happened.is_set()


@contextmanager
def ray_cluster(cpus: int) -> Iterator[None]:
    """A cluster of this process's own; jobs that run here use it."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        # Ray's default of 15 would let anything else on the machine go before its workers.
        patch.setenv("RAY_worker_niceness", "0")
        ray.init(address="local", num_cpus=cpus, include_dashboard=False, object_store_memory=100 << 20)
    try:
        yield
    finally:
        ray.shutdown()


@dataclass(frozen=True)
class Job:
    """A running job."""

    process: subprocess.Popen[str]
    output: Path

    @classmethod
    def start(cls, flags: dict[str, object], output: Path, **environment: str) -> Job:
        """Start `sft` with `flags`."""
        command = [sys.executable, "-m", "autoalign.cli", *words_of(flags, output)]
        process = subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **environment},
        )
        return cls(process, output)

    def wait_for_step(self, step: int) -> None:
        """Until that step is logged."""
        self.wait(lambda: steps_done(self.output) >= step)

    def wait(self, condition: Callable[[], bool], seconds: float = 180) -> None:
        """Until `condition` holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.process.stderr.read() if self.process.stderr else ""
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def end(self) -> tuple[int, str]:
        """Its exit code and what it said, once it has ended."""
        _, stderr = self.process.communicate(timeout=240)
        return self.process.returncode, stderr

    def family(self) -> list[psutil.Process]:
        """All processes that it started."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def workers(self) -> list[psutil.Process]:
        """Its Ray Train workers, where its cluster is of its own."""
        return train_workers(self.family())


def train_workers(processes: list[psutil.Process]) -> list[psutil.Process]:
    """The Ray Train workers among `processes`."""
    return [process for process in processes if "RayTrainWorker" in _command(process)]


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
