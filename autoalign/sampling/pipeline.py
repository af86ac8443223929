"""Prompts through Ray Data onto a pool of engine actors; answers back as they finish."""

from __future__ import annotations

import io
import itertools
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import replace
from typing import Any, NamedTuple

from autoalign import errors
from autoalign.cluster import Cluster
from autoalign.errors import ConfigError, JobFailed
from autoalign.sampling.prompts import Prompt
from autoalign.sampling.worker import Answer, EngineWorker, WorkerSpec

_ANSWERS_A_TASK = 16
DEFAULT_CONCURRENCY = {"vllm": 256, "openai": 32, "serve": 32, "hf": 16, "fake": 256}


class Tasks(NamedTuple):
    """Prompts with the indices of the answers wanted; `n` is the most a prompt can want."""

    prompts: Iterable[tuple[Prompt, list[int]]]
    n: int


@contextmanager
def silencer() -> Iterator[Callable[[], None]]:
    """A function that silences stdout until the block ends: Ray tells it of each task that breaks off."""
    with ExitStack() as stack:

        def hush() -> None:
            stack.enter_context(redirect_stdout(io.StringIO()))

        yield hush


def answers(
    tasks: Tasks, spec: WorkerSpec, num_replicas: int, hush: Callable[[], None]
) -> Iterator[list[Answer]]:
    """Run `tasks` through `num_replicas` engines (fewer where they would idle); needs `cluster.ray_session`.

    Raises:
        InputError: an engine refuses its settings.
        JobFailed: an engine can't start, or died.
    """
    import ray
    from ray.exceptions import RayError

    _quiet_ray_data()
    blocks = list(_blocks(tasks))
    compute = _actor_pool(spec, min(num_replicas, len(blocks)))
    dataset = ray.data.from_arrow_refs(blocks)
    results = dataset.map_batches(
        EngineWorker,
        fn_constructor_args=(spec,),
        batch_size=None,
        batch_format="pyarrow",
        compute=compute,
        num_cpus=1,
        num_gpus=gpus(spec) or None,
    )
    try:
        table: Any
        for table in results.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for row in table.to_pylist():
                if row["failure"]:
                    hush()
                    raise failure(*row["failure"])
                yield [Answer(**answer) for answer in row["answers"]]
    except RayError as error:
        raise JobFailed(f"Ray lost the engines: {_last_line(error)}") from error


def require_room(spec: WorkerSpec, num_replicas: int, cluster: Cluster) -> None:
    """Raises ConfigError when the cluster can't hold the replicas: Ray would wait for ever without a word."""
    each = gpus(spec)
    if each and num_replicas * each > cluster.gpus:
        raise ConfigError(
            f"{num_replicas} replicas of {each} GPUs need {num_replicas * each}; "
            f"the cluster has {cluster.gpus:g}: lower --num_replicas or --tensor_parallel_size"
        )
    if num_replicas > cluster.cpus:
        raise ConfigError(f"{num_replicas} replicas need as many CPUs; the cluster has {cluster.cpus:g}")


def gpus(spec: WorkerSpec) -> int:
    """GPUs that one engine takes."""
    if not spec.options.use_gpu or spec.backend in ("openai", "serve", "fake"):
        return 0
    return spec.options.tensor_parallel_size * spec.options.pipeline_parallel_size


def _actor_pool(spec: WorkerSpec, num_replicas: int) -> Any:
    import ray

    in_flight = spec.options.concurrency or DEFAULT_CONCURRENCY[spec.backend]
    calls = math.ceil(in_flight / _ANSWERS_A_TASK)
    return ray.data.ActorPoolStrategy(
        size=num_replicas,
        max_concurrent_calls_per_actor=calls,
        max_tasks_in_flight_per_actor=calls + 2,
        enable_true_multi_threading=True,
    )


def _blocks(tasks: Tasks) -> Iterator[Any]:
    """References to tables of about `_ANSWERS_A_TASK` answers each; Ray spills what memory can't hold."""
    import pyarrow as pa
    import ray

    prompts = iter(tasks.prompts)
    size = max(1, _ANSWERS_A_TASK // tasks.n)
    while chunk := list(itertools.islice(prompts, size)):
        lines = [replace(prompt, extra={}).dumps() for prompt, _ in chunk]
        yield ray.put(pa.table({"prompt": lines, "wanted": [wanted for _, wanted in chunk]}))


def _quiet_ray_data() -> None:
    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Every yielded row is passed on at once, instead of when 128 MiB are full.
    context.target_max_block_size = 1
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else repr(error)


def failure(name: str, message: str) -> errors.AutoAlignError:
    """The error that a worker has named, as the class it had there where that is one of ours."""
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, errors.InputError):
        return kind(message)
    return JobFailed(message)
