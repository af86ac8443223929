"""`python -m tests.patient_job FOLDER COMMAND RUN_ID`: a platform's job that waits for a file named `go`.

It holds the job's lock and leaves its outcome as real ones do, and notes its begin and end in `runs.txt`.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from autoalign.jobs.folder import JobFolder, Outcome
from autoalign.jobs.runners.base import Run
from autoalign.jobs.runners.ray import RayRunner


class PatientRun(Run):
    """A run whose process is this module."""

    @property
    def argv(self) -> list[str]:
        return [sys.executable, "-m", "tests.patient_job", str(self.folder), self.command, self.id]


class PatientRunner(RayRunner):
    """Ray Jobs, each one of them patient."""

    def submit(self, run: Run) -> None:
        """Submit it."""
        super().submit(PatientRun(run.id, run.command, run.folder))


def main(folder: JobFolder, run_id: str) -> None:
    """Wait, and end well."""
    with folder.held(run_id, 60), (folder.path / "runs.txt").open("a", buffering=1) as runs:
        runs.write(f"begin {run_id}\n")
        while not (folder.path / "go").exists():
            time.sleep(0.05)
        runs.write(f"end {run_id}\n")
        folder.write_outcome(Outcome(run_id, 0))


if __name__ == "__main__":
    main(JobFolder(Path(sys.argv[1])), sys.argv[3])
