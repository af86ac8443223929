"""What a user's names of models and data stand for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from autoalign import hub
from autoalign.jobs.file_store import FileStore
from autoalign.jobs.folder import JobFolder
from autoalign.jobs.job_store import JobStore
from autoalign.jobs.model_store import ModelStore
from autoalign.jobs.roots import below
from autoalign.jobs.settings import Settings
from autoalign.principals import Principal

Served = Callable[[str], Path | None]


def nothing_served(name: str) -> Path | None:
    """Of a platform without an endpoint."""
    return None


@dataclass(frozen=True)
class UserReferences:
    """The files, models and jobs that `principal` may use.

    Args:
        served: the folder of a model that the endpoint serves to everybody.
    """

    principal: Principal
    settings: Settings
    jobs: JobStore
    files: FileStore
    models: ModelStore
    served: Served = nothing_served

    def model(self, name: str) -> str | None:
        """A model that is served, a registered one, a folder below a root, a job's output, or a hub model."""
        folder = self.models.promoted(name) or self.served(name)
        folder = folder or self.models.find(name, self.principal) or self._below(name)
        if folder is not None and folder.is_dir():
            return str(folder)
        if self.settings.hub and hub.is_repo_id(name) and ".." not in name:
            return name
        return None

    def data(self, name: str) -> str | None:
        """An uploaded file, a file below a root, or one that a job has written: `JOB/PATH`."""
        if name.startswith("file-"):
            row = self.files.get(name, self.principal)
            return row.path if row is not None else None
        found = self._below(name)
        return str(found) if found is not None else None

    def _below(self, name: str) -> Path | None:
        job_id, slash, rest = name.partition("/")
        if slash and job_id.startswith(("job-", "ftjob-")):
            job = self.jobs.get(job_id, self.principal)
            out = JobFolder(self.settings.jobs_folder / job_id).out
            return below([out], rest) if job is not None else None
        return below(self.settings.roots, name)
