"""A runner that starts nothing: a test says how each run is."""

from __future__ import annotations

import threading
from collections import Counter

from autoalign.jobs.runners.base import Run, RunnerUnreachable, Status


class FakeRunner:
    """Keeps what it was asked. Set `reachable` to False for a cluster that does not answer."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.statuses: dict[str, Status] = {}
        self.started: Counter[str] = Counter()
        self.reachable = True
        self._lock = threading.Lock()

    def submit(self, run: Run) -> None:
        """Take the run; it is running at once."""
        self._answer()
        with self._lock:
            if run.id in self.statuses:
                return
            self.started[run.id] += 1
            self.runs[run.id] = run
            self.statuses[run.id] = Status("running")

    def status(self, run_id: str) -> Status:
        """What the test has set."""
        self._answer()
        return self.statuses.get(run_id, Status("unknown"))

    def stop(self, run_id: str) -> None:
        """The run is stopped at once."""
        self._answer()
        if self.status(run_id).phase in ("pending", "running"):
            self.statuses[run_id] = Status("stopped")

    def close(self) -> None:
        """Nothing to close."""

    def _answer(self) -> None:
        if not self.reachable:
            raise RunnerUnreachable("the fake cluster is down")
