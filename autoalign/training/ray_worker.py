"""What runs in each Ray Train worker."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autoalign import model_folder
from autoalign.errors import StoppedEarly
from autoalign.training.loop import train, use_threads
from autoalign.training.task import Tables, TrainTask
from autoalign.training.watchdog import Pulse, look_every
from autoalign.training.world import World


@dataclass(frozen=True)
class _MailReporter:
    """A worker's end of the mailbox."""

    mailbox: Any

    def emit(self, event: Mapping[str, Any]) -> None:
        self.mailbox.put.remote(dict(event))

    def should_stop(self) -> bool:
        import ray

        return bool(ray.get(self.mailbox.should_stop.remote()))


def work(job: dict[str, Any]) -> None:
    """Train as one of the job's workers; rank 0 puts the outcome into the mailbox."""
    import ray

    os.environ.setdefault("DS_ACCELERATOR", "cuda" if job["use_gpu"] else "cpu")
    use_threads(job["threads"])
    task, place, mailbox = job["task"], _place(job["use_gpu"]), job["mailbox"]
    pulse = Pulse(mailbox, place.rank, look_every(task.config.hang_timeout))
    pulse.start()
    try:
        tables: Tables = ray.get(job["tables"])
        report = train(_with_model_here(task), tables, place, _MailReporter(mailbox))
        outcome: dict[str, Any] = {"kind": "outcome", "report": report}
    except StoppedEarly as stopped:
        outcome = {"kind": "outcome", "stopped": str(stopped)}
    finally:
        pulse.stop()
    if place.is_main:
        ray.get(mailbox.put.remote(outcome))


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
