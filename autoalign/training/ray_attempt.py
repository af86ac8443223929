"""One attempt at a job: a Ray Train run with a fixed number of workers, watched until it ends."""

from __future__ import annotations

import math
import os
import threading
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

from autoalign.config.train import TrainConfig
from autoalign.errors import AutoAlignError, JobFailed
from autoalign.training import watchdog
from autoalign.training.mailbox import Mailbox
from autoalign.training.ray_worker import work
from autoalign.training.reporting import Display
from autoalign.training.task import TrainReport, TrainTask

_POLL = 0.2  # seconds between looks at the workers' events
_DRAIN_POLL = 5.0  # seconds between looks for nodes that go away
_END_TIME = 90.0  # seconds that Ray Train gets to end after its workers were killed
# How many attempts there are, and with how many workers, is the job's affair.
_ONE_TRY: dict[str, Any] = {
    "max_failures": 0,
    "controller_failure_limit": 0,
    "max_preemption_failures": 0,
}
# Ray Train's own timing, for its controller: it looks at the workers every 2 seconds, which is felt at the
# end of a job; and an actor of its own looks for nodes that go away, as the watchdog does.
_RAY_TRAIN = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5", "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}


class Share(NamedTuple):
    """What one worker gets of the cluster."""

    gpu: bool
    cpus: int

    @property
    def resources(self) -> dict[str, float]:
        """As Ray counts them."""
        return {"CPU": self.cpus, **({"GPU": 1} if self.gpu else {})}


@dataclass(frozen=True)
class Ending:
    """How an attempt ended.

    Attributes:
        report: the job is done.
        stopped: it was stopped, with its state saved: where.
        leaving: why it stopped, where a worker or its node was about to go.
        failure: what failed, in a line.
        story: the failure's traceback.
        counts: the failure counts against `max_failures`.
    """

    report: TrainReport | None = None
    stopped: str = ""
    leaving: str = ""
    failure: str = ""
    story: str = ""
    counts: bool = True


class Attempt:
    """Runs the trainer in a thread, so that this one shows events, hears signals and sees a hang.

    Args:
        tables: the job's rows, as a Ray object.
    """

    def __init__(self, task: TrainTask, tables: Any, display: Display, share: Share, workers: int) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._task, self._tables, self._display = task, tables, display
        self._share, self._workers = share, workers
        # On the driver's node: it must not be lost with a worker's.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._mailbox: Any = ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=here).remote()
        self._outcome: dict[str, Any] = {}
        self._stacks: dict[int, str] = {}
        self._error: Exception | None = None
        self._leaving = self._hung = ""

    def request_stop(self) -> None:
        """Have the workers save and end after this step."""
        self._mailbox.request_stop.remote()

    def run(self) -> Ending:
        """Train.

        Raises:
            AutoAlignError: what a worker complained of: it would do so again.
        """
        import ray

        thread = threading.Thread(target=self._fit, daemon=True)
        thread.start()
        try:
            self._watch(thread)
            self._take_events()
        finally:
            if thread.is_alive():
                watchdog.kill_workers(self._mailbox)
            ray.kill(self._mailbox)
        return self._ending()

    def _watch(self, thread: threading.Thread) -> None:
        import ray

        limit, drain_at = self._task.config.hang_timeout, time.monotonic()
        while thread.is_alive():
            self._take_events()
            idle = ray.get(self._mailbox.idle.remote())
            if idle > limit:
                self._end_hang(idle, thread)
            if time.monotonic() >= drain_at and not self._leaving:
                drain_at = time.monotonic() + _DRAIN_POLL
                if draining := watchdog.draining_nodes(self._mailbox):
                    self._leaving = f"node {draining[0]} is being taken away"
                    self.request_stop()
            thread.join(_POLL)

    def _take_events(self) -> None:
        import ray

        for event in ray.get(self._mailbox.take.remote()):
            if event["kind"] == "outcome":
                self._outcome = event
            elif event["kind"] == "stacks":
                self._stacks[event["rank"]] = event["text"]
            elif event["kind"] == "leave":
                self._leaving = self._leaving or event["text"]
            else:
                self._display.show(event)

    def _end_hang(self, idle: float, thread: threading.Thread) -> None:
        every = watchdog.look_every(self._task.config.hang_timeout)
        folder = watchdog.collect_stacks(
            self._mailbox, self._stacks_so_far, every, self._task.output_dir / "stacks"
        )
        self._hung = (
            f"no worker moved for {idle:.0f} s (--hang_timeout {self._task.config.hang_timeout:g}); "
            f"the stacks of all workers are in {folder}"
        )
        watchdog.kill_workers(self._mailbox)
        thread.join(_END_TIME)
        if thread.is_alive():
            raise JobFailed(f"{self._hung}; they were killed, but Ray Train did not end")

    def _stacks_so_far(self) -> dict[int, str]:
        self._take_events()
        return self._stacks

    def _ending(self) -> Ending:
        if "report" in self._outcome:
            return Ending(report=self._outcome["report"])
        if "stopped" in self._outcome:
            return Ending(stopped=self._outcome["stopped"], leaving=self._leaving)
        if self._hung:
            return Ending(failure=self._hung)
        if self._error is None:
            return Ending(failure="the workers ended without a result")
        return _failure(self._error)

    def _fit(self) -> None:
        for name, value in _RAY_TRAIN.items():
            os.environ.setdefault(name, value)
        try:
            self._trainer().fit()
        except Exception as error:  # a process boundary: told apart by _failure
            self._error = error

    def _trainer(self) -> Any:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        config, share = self._task.config, self._share
        job = {
            "task": self._task,
            "tables": self._tables,
            "mailbox": self._mailbox,
            "use_gpu": share.gpu,
            "threads": None if share.gpu else share.cpus,
        }
        return TorchTrainer(
            work,
            train_loop_config=job,
            # The watchdog comes first: it writes the stacks.
            torch_config=TorchConfig("nccl" if share.gpu else "gloo", timeout_s=_collective_timeout(config)),
            scaling_config=ScalingConfig(
                num_workers=self._workers, use_gpu=share.gpu, resources_per_worker=share.resources
            ),
            run_config=RunConfig(
                name=f"{config.job}-{time.time_ns()}",
                storage_path=str((self._task.output_dir / ".ray").resolve()),
                failure_config=FailureConfig(**_ONE_TRY),
            ),
        )


def _collective_timeout(config: TrainConfig) -> int:
    return math.ceil(2 * config.hang_timeout + watchdog.look_every(config.hang_timeout) + 30)


def _failure(error: Exception) -> Ending:
    """What ended the workers; their own complaint is raised as it is."""
    from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError

    failures = getattr(error, "worker_failures", {})
    for cause in (error, *failures.values()):
        inner = getattr(cause, "cause", cause)
        for candidate in (cause, inner, cause.__cause__):
            if isinstance(candidate, AutoAlignError):
                raise candidate
    if isinstance(getattr(error, "controller_failure", None), WorkerGroupStartupTimeoutError):
        return Ending(failure="another job took the room that was found", counts=False)
    lines = [line for line in str(next(iter(failures.values()), error)).strip().splitlines() if line.strip()]
    return Ending(failure=lines[-1].strip() if lines else repr(error), story=str(error))
