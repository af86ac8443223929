"""The loop on Ray Train: N workers anywhere on a cluster, tried again with as many as there is room for."""

from __future__ import annotations

import shutil
import threading

from autoalign.cluster import Cluster, ray_session
from autoalign.errors import ConfigError, JobFailed, StoppedEarly
from autoalign.room import Need
from autoalign.training import output
from autoalign.training.ray_attempt import Attempt, Ending, Share
from autoalign.training.reporting import Display, stop_on_signals
from autoalign.training.scheduling import wait_for_room
from autoalign.training.shards import served
from autoalign.training.task import Tables, TrainReport, TrainTask


def run(task: TrainTask, tables: Tables, display: Display) -> TrainReport:
    """Train on `config.num_workers` Ray Train workers.

    Raises:
        ConfigError: this machine can't hold the workers.
        ResourcesMissing: the cluster had no room for them within `schedule_timeout`.
        JobFailed: workers failed more than `max_failures` times.
        StoppedEarly: a signal; a checkpoint was written first.
    """
    from autoalign.training.run import announce

    config = task.config
    with ray_session(min_cpus=config.max_workers) as cluster:
        use_gpu = cluster.gpus > 0 if config.use_gpu is None else config.use_gpu
        room = _room_here(task, cluster, use_gpu) if cluster.is_local else None
        share = Share(use_gpu, config.cpus_per_worker or _fair_share(cluster, config.max_workers))
        _require_cpus(task, cluster, share.cpus)
        announce(task, tables, room or config.max_workers, display)
        tables = served(tables)
        try:
            report = _Job(task, tables, display, share, room).run()
        finally:
            # Ray Train's own books; what a resume needs is in the checkpoints.
            shutil.rmtree(task.output_dir / ".ray", ignore_errors=True)
    output.mark_done(task.output_dir, report)
    return report


def _fair_share(cluster: Cluster, workers: int) -> int:
    """CPUs a worker gets on a machine of one's own; one each on a shared cluster."""
    return max(1, int(cluster.cpus) // workers) if cluster.is_local else 1


def _room_here(task: TrainTask, cluster: Cluster, use_gpu: bool) -> int:
    """Workers on a machine of one's own: nothing else is on it, and nothing will be added."""
    fewest, most = task.config.min_workers, task.config.max_workers
    if use_gpu and fewest > cluster.gpus:
        raise ConfigError(
            f"{fewest} workers need a GPU each; this machine has {cluster.gpus:g}: lower --num_workers"
        )
    return min(most, int(cluster.gpus)) if use_gpu else most


def _require_cpus(task: TrainTask, cluster: Cluster, cpus: int) -> None:
    workers = task.config.max_workers
    if cluster.is_local and workers * cpus > cluster.cpus:
        raise ConfigError(
            f"{workers} workers of {cpus} CPUs need {workers * cpus}; this machine has {cluster.cpus:g}: "
            "lower --num_workers or --cpus_per_worker"
        )


class _Job:
    """Attempts, one after the other, until the job is done or may fail no more.

    Args:
        room: workers that fit, where that is known beforehand.
    """

    def __init__(
        self, task: TrainTask, tables: Tables, display: Display, share: Share, room: int | None
    ) -> None:
        import ray

        self._task, self._display, self._share, self._room = task, display, share, room
        # The rows go through the object store: no shared file system is needed to read them.
        self._tables = ray.put(tables)
        self._attempt: Attempt | None = None
        self._stop = threading.Event()
        self._failures = 0

    def run(self) -> TrainReport:
        with stop_on_signals(self._request_stop):
            while True:
                ending = self._try()
                if ending.report is not None:
                    return ending.report
                self._count(ending)

    def _request_stop(self) -> None:
        self._stop.set()
        if self._attempt is not None:
            self._attempt.request_stop()

    def _try(self) -> Ending:
        workers = self._find_room()
        if workers < self._task.config.max_workers:
            self._display.note(
                f"{workers} worker(s) of {self._task.config.max_workers}, with more micro-batches each: the "
                "global batch stays"
            )
        self._attempt = Attempt(self._task, self._tables, self._display, self._share, workers)
        if self._stop.is_set():
            self._attempt.request_stop()
        return self._attempt.run()

    def _find_room(self) -> int:
        if self._room is not None:
            return self._room
        config = self._task.config
        need = Need(self._share.resources, config.min_workers, config.max_workers)
        return wait_for_room(need, config.schedule_timeout, self._display.note, self._stop.is_set)

    def _count(self, ending: Ending) -> None:
        """Note how an attempt ended, and whether there may be another."""
        if ending.stopped and (not ending.leaving or self._stop.is_set()):
            raise StoppedEarly(ending.stopped)
        allowed = self._task.config.max_failures
        self._failures += ending.counts
        may_go_on = allowed == -1 or self._failures <= allowed
        what = f"{ending.leaving}; {ending.stopped}" if ending.stopped else ending.failure
        if not may_go_on and ending.stopped:
            raise StoppedEarly(what)
        if not may_go_on:
            story = self._keep_story(ending)
            raise JobFailed(f"{what}{story}. Run the same command again to go on from the last checkpoint")
        most = "" if allowed == -1 else f" of {allowed} allowed"
        self._display.note(f"{what}: starting again (failure {self._failures}{most})")

    def _keep_story(self, ending: Ending) -> str:
        if not ending.story:
            return ""
        log = self._task.output_dir / "error.log"
        log.write_text(ending.story, encoding="utf-8")
        return f"; the whole story is in {log}"
