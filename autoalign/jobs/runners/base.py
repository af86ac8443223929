"""The Protocol of runners. The watcher asks them; they keep nothing of their own that matters."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from autoalign.errors import AutoAlignError

# Where `autoalign` is imported from.
PACKAGE_ROOT = Path(__file__).resolve().parents[3]

MODULE = "autoalign.cli.platform_job"

# unknown: the runner has never heard of it, or has lost its memory.
Phase = Literal["pending", "running", "succeeded", "failed", "stopped", "unknown"]


class RunnerUnreachable(AutoAlignError, ConnectionError):
    """The cluster does not answer; nothing is known about its jobs."""


@dataclass(frozen=True)
class Run:
    """One attempt at a job.

    Attributes:
        id: letters, digits and `-` alone; the same one is never run twice.
        command: an `autoalign-cli` command.
        folder: the job's folder.
    """

    id: str
    command: str
    folder: Path

    @property
    def argv(self) -> list[str]:
        """The process to start: nothing in it comes from a user."""
        return [sys.executable, "-m", MODULE, str(self.folder), self.command, self.id]


@dataclass(frozen=True)
class Status:
    """What a runner knows about a run.

    Attributes:
        exit_code: of its process, where that ended by itself.
        message: what the runner has to say about it.
    """

    phase: Phase
    exit_code: int | None = None
    message: str = ""


class Runner(Protocol):
    """Starts processes, says how they are, and ends them. Called from threads."""

    def submit(self, run: Run) -> None:
        """Start a run. One that was submitted before is left as it is.

        Raises:
            RunnerUnreachable: nothing is known to have been started.
        """

    def status(self, run_id: str) -> Status:
        """How a run is.

        Raises:
            RunnerUnreachable: the cluster does not answer.
        """

    def stop(self, run_id: str) -> None:
        """Ask a run's processes to end, and kill them after a few seconds; returns at once.

        Raises:
            RunnerUnreachable: the cluster does not answer.
        """

    def close(self) -> None:
        """Forget the connections; runs go on."""
