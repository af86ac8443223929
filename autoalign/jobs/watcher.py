"""Starts queued jobs, follows running ones, and finds out what became of those that were lost sight of.

Each API replica runs one. They share no memory: a job is claimed and ended by compare-and-set in
the database, so any number of them may run, and any may die.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field

from sqlalchemy.exc import DBAPIError

from autoalign.jobs import kinds
from autoalign.jobs.database import new_id
from autoalign.jobs.ending import Ending, finish
from autoalign.jobs.folder import JobFolder
from autoalign.jobs.harvest import Harvester
from autoalign.jobs.platform import Platform
from autoalign.jobs.runners.base import Run, RunnerUnreachable, Status
from autoalign.jobs.tables import JobRow

_log = logging.getLogger(__name__)
# Seconds that a run may stay unknown: Ray lists a new one a moment after it was submitted.
_GRACE = 5.0
_EXIT_STOPPED_EARLY = 3


@dataclass
class Watcher:
    """Looks after the jobs of a platform.

    Args:
        every: seconds between two rounds.
        grace: seconds that a run may stay unknown to its runner.
    """

    platform: Platform
    every: float = 1.0
    grace: float = _GRACE
    replica: str = field(default_factory=lambda: new_id("replica-"))
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __post_init__(self) -> None:
        self._harvester = Harvester(self.platform.jobs)

    def start(self) -> None:
        """Look after jobs in a thread."""
        self._thread = threading.Thread(target=self._run, name="job-watcher", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; jobs go on."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=30)

    def _run(self) -> None:
        while not self._stop.wait(self.every):
            try:
                self.round()
            except DBAPIError as error:
                _log.warning("the jobs' database does not answer: %s", error.orig)
            except Exception:  # the thread's boundary: jobs must not go unwatched for one round's fault
                _log.exception("a round over the jobs failed")

    def round(self) -> None:
        """Start what there is room for, and look at everything that runs."""
        limits = self.platform.settings.limits
        while (job := self.platform.jobs.claim_next(limits, self.replica)) is not None:
            self._submit(job)
        for job in self.platform.jobs.in_state("running"):
            if self.platform.jobs.lease(job, self.replica):
                try:
                    self._look_at(job)
                except DBAPIError:
                    raise
                except Exception:  # one job's boundary: the others must not wait for its fault
                    _log.exception("looking at job %s failed", job.id)

    def _submit(self, job: JobRow) -> None:
        run = Run(str(job.run_id), kinds.load(job.kind).command, self.platform.folder(job.id).path)
        try:
            self.platform.runner.submit(run)
            # While it was being started, its user or another replica may have ended the job.
            if not self._is_wanted(job):
                self.platform.runner.stop(run.id)
        except RunnerUnreachable as error:
            # It may have got through all the same, so it keeps its run id: the next look decides.
            self.platform.jobs.note(job, message=str(error))

    def _is_wanted(self, job: JobRow) -> bool:
        """Whether the attempt is still the job's, and its user wants it to go on."""
        now = self.platform.jobs.get(job.id)
        return now is not None and (now.state, now.run_id, now.intent) == ("running", job.run_id, "")

    def _look_at(self, job: JobRow) -> None:
        folder = self.platform.folder(job.id)
        self._harvester.take(job, folder)
        if job.api == "batch":
            self.platform.batches.follow(job, folder)
        try:
            status = self.platform.runner.status(str(job.run_id))
            if job.intent and status.phase in ("pending", "running"):
                self.platform.runner.stop(str(job.run_id))
                return
        except RunnerUnreachable as error:
            self._unreachable(job, folder, str(error))
            return
        if status.phase in ("pending", "running"):
            self._alive(job, status)
        elif status.phase == "unknown":
            self._unknown(job, folder)
        else:
            self._ended(job, folder, status)

    def _alive(self, job: JobRow, status: Status) -> None:
        if job.unseen_since is not None:
            self.platform.jobs.note(job, unseen_since=None, message="")
        elif status.phase == "pending" and status.message != job.message:
            self.platform.jobs.note(job, message=status.message)

    def _ended(self, job: JobRow, folder: JobFolder, status: Status) -> None:
        outcome = folder.outcome()
        if outcome is not None and outcome.run_id == job.run_id:
            self._by_exit_code(job, outcome.exit_code)
        elif job.intent:
            self._end(job, _wanted(job))
        elif status.exit_code is not None:
            self._by_exit_code(job, status.exit_code)
        elif status.phase == "stopped":
            self._end(job, Ending("cancelled", "stopped from outside the platform"))
        elif status.phase == "succeeded":
            self._by_exit_code(job, 0)
        else:
            self._go_on(job, f"the cluster lost the job: {status.message}")

    def _by_exit_code(self, job: JobRow, code: int) -> None:
        if code == 0:
            self._end(job, Ending("succeeded", "", code))
        elif job.intent:
            self._end(job, _wanted(job))
        elif code == _EXIT_STOPPED_EARLY:
            self._go_on(job, "the job was stopped from outside, with its state saved")
        else:
            self._end(job, Ending("failed", _last_words(job.log_tail, code), code))

    def _unknown(self, job: JobRow, folder: JobFolder) -> None:
        """The runner has lost its memory, or never heard of the run."""
        outcome = folder.outcome()
        if outcome is not None and outcome.run_id == job.run_id:
            self._by_exit_code(job, outcome.exit_code)
        elif folder.is_held():
            return  # its process has outlived the runner: it is waited for
        elif job.intent and folder.has_started(str(job.run_id)):
            self._end(job, _wanted(job))
        elif not self._long_unseen(job, self.grace):
            return  # another replica may be just about to start it
        elif job.intent:
            if folder.rule_out(str(job.run_id)):
                self._end(job, _wanted(job))
        elif not folder.has_started(str(job.run_id)):
            self._submit(job)
        else:
            self._go_on(job, "the cluster has restarted, and the job with it is gone")

    def _unreachable(self, job: JobRow, folder: JobFolder, message: str) -> None:
        outcome = folder.outcome()
        if outcome is not None and outcome.run_id == job.run_id:
            self._by_exit_code(job, outcome.exit_code)
        elif self._long_unseen(job, self.platform.settings.limits.unreachable) and not folder.is_held():
            folder.rule_out(str(job.run_id))
            self._end(job, Ending("lost", message))
        elif job.message != message:
            self.platform.jobs.note(job, message=message)

    def _long_unseen(self, job: JobRow, seconds: float) -> bool:
        if job.unseen_since is None:
            job.unseen_since = time.time()
            self.platform.jobs.note(job, unseen_since=job.unseen_since)
        return time.time() - job.unseen_since >= seconds

    def _go_on(self, job: JobRow, why: str) -> None:
        """Queue the job again where its kind can go on from what it has saved; else it is lost."""
        limits = self.platform.settings.limits
        if not kinds.load(job.kind).resumes:
            self._end(job, Ending("lost", f"{why}; a {job.kind} job can't go on from the middle"))
        elif job.restarts >= limits.restarts:
            self._end(job, Ending("lost", f"{why}; it has gone on {job.restarts} times before"))
        else:
            self.platform.jobs.move(
                job, "running", "queued", f"{why}; it goes on", message=why, restarts=job.restarts + 1
            )

    def _end(self, job: JobRow, ending: Ending) -> None:
        # Once more: the process may have written between the last look and its end.
        self._harvester.take(job, self.platform.folder(job.id))
        finish(self.platform, job, ending)
        self._harvester.forget(job)


def _wanted(job: JobRow) -> Ending:
    return Ending("paused", "") if job.intent == "pause" else Ending("cancelled", "cancelled by its user")


def _last_words(tail: str, code: int) -> str:
    """The message that the command ended with, or what the exit code says."""
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    errors = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    if errors:
        return "\n".join(lines[errors[-1] :])[:4000].removeprefix("error: ")
    if code < 0 or code > 128:
        return f"its process was ended by signal {-code if code < 0 else code - 128}; see the log"
    return f"exit code {code}: {lines[-1][:1000] if lines else 'nothing was printed'}"
