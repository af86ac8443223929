"""How tasks reach a Ray Data pipeline while it runs: the driver puts them in, a source passes them on.

Ray Data's own sources know all their blocks before they start, and keep a reference to each in the
driver; here the driver makes a task when there is room for it.
"""

from __future__ import annotations

import asyncio
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import pyarrow as pa


_PATIENCE = 5.0  # seconds that the queue gets to answer
_READY = 256  # tasks that the source has ready for Ray Data


class _Queue:
    """The actor between driver and source. Ray may run the calls of such an actor in another order."""

    def __init__(self) -> None:
        self._tasks: deque[bytes] = deque()
        self._given = 0
        self._total: int | None = None
        self._changed = asyncio.Event()
        self._begun = False
        self._engines = 0

    async def begin(self) -> None:
        """The source starts. Ray repeats one whose process was lost, but not what it had passed on."""
        if self._begun:
            raise RuntimeError("the source of tasks was lost")
        self._begun = True

    async def arrive(self) -> None:
        """An engine has a place in the cluster."""
        self._engines += 1

    async def arrived(self) -> int:
        """How many engines have one, or had."""
        return self._engines

    async def put(self, task: bytes) -> None:
        """A task more."""
        self._tasks.append(task)
        self._changed.set()

    async def end(self, total: int) -> None:
        """How many tasks there are in all."""
        self._total = total
        self._changed.set()

    async def take(self) -> list[bytes]:
        """What has come since the last call; waits for one at least, and gives none at the end."""
        while not self._tasks and self._given != self._total:
            self._changed.clear()
            await self._changed.wait()
        tasks = list(self._tasks)
        self._tasks.clear()
        self._given += len(tasks)
        return tasks


class Feed:
    """Tasks for one pipeline. The queue lives on the driver's machine, and dies with the block."""

    def __init__(self) -> None:
        import ray

        # A source on a machine that is lost would take along what it had taken from the queue.
        self._here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
        queue: Any = ray.remote(_Queue)
        self._queue = queue.options(num_cpus=0, label_selector=self._here).remote()
        self._put = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import ray

        ray.kill(self._queue)

    def put(self, task: bytes) -> None:
        """Hand a task over; how many are on their way is for the caller to bound."""
        self._queue.put.remote(task)
        self._put += 1

    def end(self) -> None:
        """There are no more tasks; the source ends."""
        self._queue.end.remote(self._put)

    def doorbell(self) -> Callable[[], None]:
        """For an engine to call as soon as it has a place; it travels to the engine's process."""
        return partial(_ring, self._queue)

    def engines(self) -> int:
        """How many engines have a place, or had.

        Raises:
            RayError: the queue does not answer.
        """
        import ray

        return int(ray.get(self._queue.arrived.remote(), timeout=_PATIENCE))

    def dataset(self) -> Any:
        """The tasks as tables of one row, in the column `task`."""
        import pyarrow as pa
        import ray

        start = ray.data.from_arrow(pa.table({"start": [0]}))
        pass_on: Any = _passed_on
        with warnings.catch_warnings(action="ignore"):  # the last argument is to go with Ray 2.64
            return start.map_batches(
                pass_on,
                fn_args=(self._queue,),
                batch_size=None,
                batch_format="pyarrow",
                num_cpus=0,
                label_selector=self._here,
                # Ray Data takes what a source has ready, ten times a second. Of itself it lets two blocks be
                # ready: twenty tasks a second for all engines together. Each block comes with its metadata.
                _generator_backpressure_num_objects=2 * _READY,
            )


def _ring(queue: Any) -> None:
    queue.arrive.remote()


def _passed_on(_: pa.Table, queue: Any) -> Iterator[pa.Table]:
    import pyarrow as pa
    import ray

    ray.get(queue.begin.remote())
    while tasks := ray.get(queue.take.remote()):
        for task in tasks:
            yield pa.table({"task": pa.array([task], pa.binary())})
