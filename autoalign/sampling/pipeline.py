"""Prompts through Ray Data onto a pool of engine actors; answers back as they finish."""

from __future__ import annotations

import importlib
import io
import itertools
import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stdout
from typing import Any, NamedTuple

from autoalign import errors
from autoalign.errors import JobFailed
from autoalign.sampling import messages, replicas
from autoalign.sampling.engines.base import EngineDead
from autoalign.sampling.feed import Feed
from autoalign.sampling.messages import Answer, Message
from autoalign.sampling.prompts import Prompt
from autoalign.sampling.replicas import Replicas
from autoalign.sampling.waiting import Say, Waiting, told
from autoalign.sampling.worker import EngineWorker, WorkerSpec


class Tasks(NamedTuple):
    """Prompts with the indices of the answers wanted; `n` is the most a prompt can want.

    `at_most`: how many prompts there are at most, where that is known.
    """

    prompts: Iterable[tuple[Prompt, list[int]]]
    n: int
    at_most: int | None = None


@contextmanager
def silencer() -> Iterator[Callable[[], None]]:
    """A function that silences stdout until the block ends: Ray tells it of each task that breaks off."""
    with ExitStack() as stack:

        def hush() -> None:
            stack.enter_context(redirect_stdout(io.StringIO()))

        yield hush


def answers(
    tasks: Tasks, spec: WorkerSpec, pool: Replicas, hush: Callable[[], None]
) -> Iterator[list[Answer]]:
    """Like `reports`, of which these are the answers."""
    for message in reports(tasks, spec, pool, hush):
        yield message.answers


def reports(
    tasks: Tasks, spec: WorkerSpec, pool: Replicas, hush: Callable[[], None], say: Say | None = None
) -> Generator[Message, None, None]:
    """Run `tasks` through a pool of engines (fewer where they would idle); needs `cluster.ray_session`.

    Prompts are taken from `tasks` as there is room for them, so that their number costs no memory.

    Args:
        say: takes a line now and then on what is missing while no engine has a place in the cluster;
            None: there is room.

    Raises:
        InputError: an engine refuses its settings.
        JobFailed: an engine can't start, or died.
    """
    from ray.exceptions import RayError

    _set_up_ray_data()
    size, pool = replicas.divided(spec, pool, tasks.n, tasks.at_most)
    waiting = Waiting(replicas.need(spec, pool), 1, say) if say is not None else None
    with (
        _no_block_statistics(),
        Feed() as feed,
        # Where no CPU is free, Ray Data waits before it asks for an engine.
        told(waiting, feed.engines) if waiting is not None else nullcontext(),
        replicas.actor_options(spec) as options,
    ):
        results = feed.dataset().map_batches(
            EngineWorker,
            fn_constructor_args=(spec, feed.doorbell()),
            batch_size=None,
            batch_format="pyarrow",
            compute=replicas.actor_pool(pool),
            **options,
        )
        ahead = _Ahead(feed, _packed(tasks.prompts, size), replicas.tasks_ahead(pool))
        try:
            yield from _exchange(results, ahead, hush)
        except RayError as error:
            raise JobFailed(f"Ray lost the engines: {_last_line(error)}") from error


class _Ahead:
    """Keeps so many tasks on their way that no engine idles, and no more."""

    def __init__(self, feed: Feed, tasks: Iterator[tuple[int, bytes]], limit: int) -> None:
        self._feed, self._tasks, self._limit = feed, tasks, limit
        self._open: set[int] = set()
        self._ended = False

    def fill(self) -> None:
        """Send tasks until there are enough of them, or none is left."""
        while not self._ended and len(self._open) < self._limit:
            number, task = next(self._tasks, (0, b""))
            if not task:
                self._feed.end()
                self._ended = True
                return
            self._open.add(number)
            self._feed.put(task)

    def finished(self, number: int) -> None:
        """An engine has answered all of task `number` (perhaps again, after a lost actor)."""
        self._open.discard(number)


def _exchange(results: Any, ahead: _Ahead, hush: Callable[[], None]) -> Generator[Message, None, None]:
    ahead.fill()
    table: Any
    for table in results.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for raw in table["message"].to_pylist():
            message = messages.unpack(raw)
            if message.failure:
                hush()
                raise failure(*message.failure)
            if message.finished is not None:
                ahead.finished(message.finished)
            if message.answers:
                yield message
        ahead.fill()


def _packed(prompts: Iterable[tuple[Prompt, list[int]]], size: int) -> Iterator[tuple[int, bytes]]:
    """Numbered tasks of `size` prompts each."""
    rest = iter(prompts)
    for number in itertools.count():
        if not (chunk := list(itertools.islice(rest, size))):
            return
        yield number, messages.pack_task(number, chunk)


def _set_up_ray_data() -> None:
    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Every yielded row is passed on at once, instead of when 128 MiB are full.
    context.target_max_block_size = 1
    context.autoscaling_config.actor_pool_util_upscaling_threshold = replicas.FULL
    context.autoscaling_config.actor_pool_util_downscaling_threshold = replicas.IDLE
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)


@contextmanager
def _no_block_statistics() -> Iterator[None]:
    """Ray Data 2.60 keeps the statistics of every block until the pipeline ends: a kilobyte a message in the
    driver, 100 GB of a hundred million answers that come one by one (`MapOperator._output_blocks_stats`)."""
    map_operator: Any = importlib.import_module("ray.data._internal.execution.operators.map_operator")
    kept = getattr(map_operator, "to_stats", None)
    if kept is None:  # another version
        yield
        return
    map_operator.to_stats = _nothing
    try:
        yield
    finally:
        map_operator.to_stats = kept


def _nothing(_: object) -> list[Any]:
    return []


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else repr(error)


def failure(name: str, message: str) -> errors.AutoAlignError:
    """The error that a worker has named, as the class it had there where that is one of ours."""
    if name == EngineDead.__name__:
        return EngineDead(message)
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, errors.InputError):
        return kind(message)
    return JobFailed(message)
