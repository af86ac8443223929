"""A platform in a folder of a test: SQLite, a fake runner, one model below its root."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autoalign.jobs.folder import Outcome
from autoalign.jobs.platform import Order, Platform
from autoalign.jobs.runners.base import Run, Status
from autoalign.jobs.runners.fake import FakeRunner
from autoalign.jobs.settings import Limits, Settings
from autoalign.jobs.tables import JobRow
from autoalign.jobs.watcher import Watcher
from autoalign.principals import Principal

ALICE = Principal("tok-alice", "alice", frozenset({"jobs"}))
BOB = Principal("tok-bob", "bob", frozenset({"jobs"}))
ADMIN = Principal("tok-admin", "root", frozenset({"admin"}))


def open_platform(
    folder: Path, runner: Any = None, limits: Limits | None = None, **settings: Any
) -> Platform:
    """Open (again) the platform in `folder`."""
    (folder / "roots" / "base").mkdir(parents=True, exist_ok=True)
    (folder / "roots" / "rows.jsonl").touch()
    given = {"database_url": f"sqlite:///{folder / 'platform.db'}", **settings}
    roots = (folder / "roots",)
    return Platform.open(
        Settings(home=folder / "home", roots=roots, limits=limits or Limits(), **given),
        runner or FakeRunner(),
    )


def sft(**values: Any) -> Order:
    """A small training job."""
    return Order("sft", {"model_name_or_path": "base", "data_path": ["rows.jsonl"], **values})


def watcher(platform: Platform, **changes: Any) -> Watcher:
    """One whose rounds a test calls; a run that is unknown counts as lost at once."""
    return Watcher(platform, **{"grace": 0.0, "replica": "test", **changes})


def end(platform: Platform, job: JobRow, code: int) -> None:
    """What a job's process does at its end."""
    finish(platform, look(platform, job), code)


def finish(platform: Platform, job: JobRow, code: int) -> None:
    """The same for a row that is known to be new, without a look into the database."""
    run = platform.runner.runs[str(job.run_id)]  # type: ignore[attr-defined]
    begin(platform, run)
    platform.folder(job.id).write_outcome(Outcome(run.id, code))
    phase = "succeeded" if code == 0 else "failed"
    platform.runner.statuses[run.id] = Status(phase, code)  # type: ignore[attr-defined]


def begin(platform: Platform, run: Run) -> None:
    """What a job's process does at its start."""
    with (run.folder / "started").open("a") as file:
        file.write(f"{run.id}\n")


def look(platform: Platform, job: JobRow) -> JobRow:
    """The job as it is now."""
    found = platform.jobs.get(job.id)
    assert found is not None
    return found
