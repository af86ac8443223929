"""The end of an attempt: the state it leaves, and what is made of its results."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoalign.jobs import kinds
from autoalign.jobs.model_names import model_name, parent
from autoalign.jobs.platform import Platform
from autoalign.jobs.roots import below
from autoalign.jobs.states import FINAL, State
from autoalign.jobs.tables import JobRow, ModelRow


@dataclass(frozen=True)
class Ending:
    """How an attempt ended."""

    state: State
    message: str
    exit_code: int | None = None


def finish(platform: Platform, job: JobRow, ending: Ending) -> bool:
    """Move a running job to its new state; False where another replica has done so.

    A succeeded training job's model is registered first: whoever sees the job succeeded
    can use its model.
    """
    values: dict[str, Any] = {"message": ending.message, "exit_code": ending.exit_code, "intent": ""}
    if ending.state in FINAL:
        values["finished_at"] = time.time()
    if ending.state == "succeeded" and kinds.load(job.kind).makes_model:
        values["model_id"] = _register(platform, job)
    if ending.state in FINAL and job.api == "fine_tuning":
        values["about"] = {**job.about, "trained_tokens": platform.jobs.trained_tokens(job.id)}
    if ending.state in FINAL and job.api == "batch":
        platform.batches.settle(job, platform.folder(job.id), ending.state)
    note = f"Job {ending.state}" + (f": {ending.message}" if ending.message else "")
    return platform.jobs.move(job, "running", ending.state, note, **values)


def _register(platform: Platform, job: JobRow) -> str | None:
    """Register the job's model; None where it has made none."""
    folder = _model_folder(platform, job)
    if folder is None:
        return None
    model_id = model_name(job)
    platform.models.add(
        ModelRow(
            id=model_id,
            owner=job.owner,
            job_id=job.id,
            parent=parent(job),
            path=str(folder),
            created_at=time.time(),
        )
    )
    return model_id


def _model_folder(platform: Platform, job: JobRow) -> Path | None:
    """Where the model lies; a report that names one outside of the job's results tells of no new one."""
    out = platform.folder(job.id).out
    named = kinds.load(job.kind).model_named_by
    if named is None:
        return out
    try:
        told = str(json.loads((out / named[0]).read_bytes())[named[1]])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return below([out], told)
