"""Runs on this machine: each a session of its own, which outlives the server that started it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from autoalign.jobs.folder import JobFolder
from autoalign.jobs.runners.base import MODULE, PACKAGE_ROOT, Run, Status

if TYPE_CHECKING:
    import psutil


@dataclass
class LocalRunner:
    """Subprocesses. Those that an earlier server has started are found by their command line.

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
            if run.id in self._processes or JobFolder(run.folder).has_started(run.id) or _find(run.id):
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
        stopping = self._stopping.get(run_id)
        if stopping is not None:
            return Status("running" if stopping.is_alive() else "stopped")
        process = self._processes.get(run_id)
        if process is None:
            return Status("running" if _find(run_id) else "unknown")
        if process.poll() is None:
            return Status("running")
        return Status("succeeded" if process.returncode == 0 else "failed", process.returncode)

    def stop(self, run_id: str) -> None:
        """SIGTERM to the process, then SIGKILL to it and all that it started."""
        with self._lock:
            process = _find(run_id)
            if process is None or run_id in self._stopping:
                return
            thread = threading.Thread(target=self._end, args=(run_id, process), daemon=True)
            self._stopping[run_id] = thread
            thread.start()

    def stop_all(self) -> int:
        """Stop every run that was started here, and wait for it; how many there were."""
        running = [run_id for run_id, process in self._processes.items() if process.poll() is None]
        for run_id in running:
            self.stop(run_id)
        for thread in list(self._stopping.values()):
            thread.join()
        return len(running)

    def close(self) -> None:
        """Processes go on."""

    def _end(self, run_id: str, process: psutil.Process) -> None:
        import psutil

        try:
            family = [process, *process.children(recursive=True)]
            process.send_signal(signal.SIGTERM)
        except psutil.NoSuchProcess:
            return
        psutil.wait_procs([process], timeout=self.patience)
        # psutil tells a pid that is used again from theirs.
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                member.kill()
        psutil.wait_procs(family, timeout=10)
        own = self._processes.get(run_id)
        if own is not None:
            own.wait()


def _find(run_id: str) -> psutil.Process | None:
    """The living process of a run, whoever has started it."""
    import psutil

    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if MODULE in words and words[-1] == run_id and process.info["status"] != psutil.STATUS_ZOMBIE:
            return process
    return None


def _environment() -> dict[str, str]:
    """This process's, without what belongs to its server: its Ray, its secrets."""
    left_out = ("AUTOALIGN_", "RAY_ADDRESS", "RAY_JOB_CONFIG")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    return kept | {"PYTHONPATH": str(PACKAGE_ROOT), "PYTHONUNBUFFERED": "1"}
