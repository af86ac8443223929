"""Runs on this machine: each a process group of its own, which outlives the server that started it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from autoalign.jobs.folder import JobFolder
from autoalign.jobs.runners.base import PACKAGE_ROOT, Run, Status

if TYPE_CHECKING:
    import psutil


@dataclass
class LocalRunner:
    """Subprocesses. It knows those that it started itself; of others, their folders tell.

    Args:
        patience: seconds between SIGTERM and SIGKILL.
    """

    patience: float = 10.0
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _stopping: dict[str, threading.Thread] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def submit(self, run: Run) -> None:
        """Start the process."""
        with self._lock:
            if run.id in self._processes or JobFolder(run.folder).has_started(run.id):
                return
            with JobFolder(run.folder).log.open("ab") as log:
                self._processes[run.id] = subprocess.Popen(
                    run.argv,
                    cwd=run.folder,
                    env=_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )

    def status(self, run_id: str) -> Status:
        """How the process is."""
        process = self._processes.get(run_id)
        if process is None:
            return Status("unknown")
        stopping = self._stopping.get(run_id)
        if process.poll() is None or (stopping is not None and stopping.is_alive()):
            return Status("running")
        if stopping is not None:
            return Status("stopped")
        return Status("succeeded" if process.returncode == 0 else "failed", process.returncode)

    def stop(self, run_id: str) -> None:
        """SIGTERM to the process, then SIGKILL to it and all that it started."""
        process = self._processes.get(run_id)
        with self._lock:
            if process is None or process.poll() is not None or run_id in self._stopping:
                return
            thread = threading.Thread(target=self._end, args=(process,), daemon=True)
            self._stopping[run_id] = thread
            thread.start()

    def close(self) -> None:
        """Processes go on."""

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        import psutil

        try:
            family = psutil.Process(process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + self.patience
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        _kill(family)
        process.wait()


def _kill(family: list[psutil.Process]) -> None:
    """End what is left of a process's descendants; psutil tells a reused pid from theirs."""
    import psutil

    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            member.kill()
    psutil.wait_procs(family, timeout=5)


def _environment() -> dict[str, str]:
    """This process's, without what belongs to its server: its Ray, its secrets."""
    left_out = ("AUTOALIGN_", "RAY_ADDRESS", "RAY_JOB_CONFIG")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    return kept | {"PYTHONPATH": str(PACKAGE_ROOT), "PYTHONUNBUFFERED": "1"}
