"""The loop on Ray Train: N workers anywhere on a cluster, watched through one small actor."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from autoalign import model_folder
from autoalign.cluster import Cluster, ray_session
from autoalign.errors import AutoAlignError, ConfigError, JobFailed, StoppedEarly
from autoalign.training import output
from autoalign.training.loop import train, use_threads
from autoalign.training.mailbox import Mailbox
from autoalign.training.reporting import Display, stop_on_signals
from autoalign.training.shards import served
from autoalign.training.task import Tables, TrainReport, TrainTask
from autoalign.training.world import World

_POLL = 0.2  # seconds between looks at the workers' events


@dataclass(frozen=True)
class _MailReporter:
    """A worker's end of the mailbox."""

    mailbox: Any

    def emit(self, event: Mapping[str, Any]) -> None:
        self.mailbox.put.remote(dict(event))

    def should_stop(self) -> bool:
        import ray

        return bool(ray.get(self.mailbox.should_stop.remote()))


def run(task: TrainTask, tables: Tables, display: Display) -> TrainReport:
    """Train on `config.num_workers` Ray Train workers.

    Raises:
        ConfigError: the cluster can't hold the workers.
        JobFailed: a worker failed more than `max_failures` times.
        StoppedEarly: a signal; a checkpoint was written first.
    """
    from autoalign.training.run import announce

    config = task.config
    with ray_session(min_cpus=config.num_workers) as cluster:
        use_gpu = cluster.gpus > 0 if config.use_gpu is None else config.use_gpu
        cpus = config.cpus_per_worker or _fair_share(cluster, config.num_workers)
        _require_room(task, cluster, use_gpu, cpus)
        announce(task, tables, config.num_workers, display)
        tables = served(tables)
        try:
            report = _Driver(task, tables, display, _Share(use_gpu, cpus)).run()
        finally:
            # Ray Train's own books; what a resume needs is in the checkpoints.
            shutil.rmtree(task.output_dir / ".ray", ignore_errors=True)
    output.mark_done(task.output_dir, report)
    return report


def _fair_share(cluster: Cluster, workers: int) -> int:
    """CPUs a worker gets on a machine of one's own; one each on a shared cluster."""
    return max(1, int(cluster.cpus) // workers) if cluster.is_local else 1


def _require_room(task: TrainTask, cluster: Cluster, use_gpu: bool, cpus: int) -> None:
    workers = task.config.num_workers
    if use_gpu and cluster.is_local and workers > cluster.gpus:
        raise ConfigError(
            f"{workers} workers need a GPU each; this machine has {cluster.gpus:g}: lower --num_workers"
        )
    if cluster.is_local and workers * cpus > cluster.cpus:
        raise ConfigError(
            f"{workers} workers of {cpus} CPUs need {workers * cpus}; this machine has {cluster.cpus:g}: "
            "lower --num_workers or --cpus_per_worker"
        )


class _Share(NamedTuple):
    """What one worker gets of the cluster."""

    gpu: bool
    cpus: int


class _Driver:
    """Runs the trainer in a thread, so that this one shows events and hears signals."""

    def __init__(self, task: TrainTask, tables: Tables, display: Display, share: _Share) -> None:
        import ray

        self._task, self._tables, self._display, self._share = task, tables, display, share
        self._mailbox: Any = ray.remote(num_cpus=0)(Mailbox).remote()
        self._error: Exception | None = None
        self._outcome: dict[str, Any] | None = None

    def run(self) -> TrainReport:
        thread = threading.Thread(target=self._fit, daemon=True)
        with stop_on_signals(lambda: self._mailbox.request_stop.remote()):
            thread.start()
            while thread.is_alive():
                self._show_events()
                thread.join(_POLL)
        self._show_events()
        if self._error is not None:
            raise _explain(self._error, self._task.output_dir)
        if self._outcome is None:
            raise JobFailed("the workers ended without a result")
        if "stopped" in self._outcome:
            raise StoppedEarly(self._outcome["stopped"])
        report: TrainReport = self._outcome["report"]
        return report

    def _show_events(self) -> None:
        import ray

        for event in ray.get(self._mailbox.take.remote()):
            if event["kind"] == "outcome":
                self._outcome = event
            else:
                self._display.show(event)

    def _fit(self) -> None:
        try:
            self._trainer().fit()
        except Exception as error:  # a process boundary: told apart and re-raised by run()
            self._error = error

    def _trainer(self) -> Any:
        import ray
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        config = self._task.config
        # The rows go through the object store: no shared file system is needed to read them.
        job = {
            "task": self._task,
            "tables": ray.put(self._tables),
            "mailbox": self._mailbox,
            "use_gpu": self._share.gpu,
            "threads": self._share.cpus if not self._share.gpu else None,
        }
        return TorchTrainer(
            _worker,
            train_loop_config=job,
            torch_config=TorchConfig(backend="nccl" if self._share.gpu else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=config.num_workers,
                use_gpu=self._share.gpu,
                resources_per_worker={"CPU": self._share.cpus, **({"GPU": 1} if self._share.gpu else {})},
            ),
            run_config=RunConfig(
                name=f"{config.job}-{int(time.time())}",
                storage_path=str((self._task.output_dir / ".ray").resolve()),
                failure_config=FailureConfig(max_failures=config.max_failures),
            ),
        )


def _worker(job: dict[str, Any]) -> None:
    """What runs in each Ray Train worker."""
    import ray

    os.environ.setdefault("DS_ACCELERATOR", "cuda" if job["use_gpu"] else "cpu")
    use_threads(job["threads"])
    tables: Tables = ray.get(job["tables"])
    task, place = _with_model_here(job["task"]), _place(job["use_gpu"])
    reporter = _MailReporter(job["mailbox"])
    try:
        outcome: dict[str, Any] = {"kind": "outcome", "report": train(task, tables, place, reporter)}
    except StoppedEarly as stopped:
        outcome = {"kind": "outcome", "stopped": str(stopped)}
    if place.is_main:
        ray.get(job["mailbox"].put.remote(outcome))


def _place(use_gpu: bool) -> World:
    import ray.train.torch
    import torch

    context = ray.train.get_context()
    device = ray.train.torch.get_device() if use_gpu else torch.device("cpu")
    if use_gpu:
        torch.cuda.set_device(device)
    return World(context.get_world_rank(), context.get_world_size(), device)


def _with_model_here(task: TrainTask) -> TrainTask:
    """A hub model lies in the driver's cache alone; on another node it is fetched there too."""
    if Path(task.model_path).is_dir():
        return task
    return replace(task, model_path=str(model_folder.find(task.config.model_name_or_path, fetch=True)))


def _explain(error: Exception, output_dir: Path) -> AutoAlignError:
    """A worker's own complaint as it is; anything else with its traceback in error.log."""
    failures = getattr(error, "worker_failures", {})
    for cause in (error, *failures.values()):
        inner = getattr(cause, "cause", cause)
        for candidate in (cause, inner, cause.__cause__):
            if isinstance(candidate, AutoAlignError):
                return candidate
    log = output_dir / "error.log"
    log.write_text(str(error), encoding="utf-8")
    lines = [line for line in str(next(iter(failures.values()), error)).strip().splitlines() if line.strip()]
    return JobFailed(
        f"{lines[-1].strip() if lines else error!r}; the whole story is in {log}. "
        "Run the same command again to go on from the last checkpoint"
    )
