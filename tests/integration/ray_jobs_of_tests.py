"""`autoalign-cli sft` on Ray as a process of its own, with the tiny model."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from autoalign.training.metrics import read_metrics


@dataclass(frozen=True)
class Job:
    """A running job."""

    process: subprocess.Popen[str]
    output: Path

    @classmethod
    def start(cls, flags: dict[str, object], output: Path, **environment: str) -> Job:
        """Start `sft` with `flags`."""
        words = [word for key, value in flags.items() for word in (f"--{key}", str(value))]
        command = [sys.executable, "-m", "autoalign.cli", "sft", *words, "--output_dir", str(output)]
        process = subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **environment},
        )
        return cls(process, output)

    def steps_done(self) -> int:
        """The last step in metrics.jsonl."""
        rows = read_metrics(self.output / "metrics.jsonl")
        return rows[-1]["step"] if rows else 0

    def wait_for_step(self, step: int) -> None:
        """Until that step is logged."""
        self.wait(lambda: self.steps_done() >= step)

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
    return [process for process in processes if "RayTrainWorker" in " ".join(process.cmdline())]
