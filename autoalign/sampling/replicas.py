"""What a replica of the engine takes of the cluster, and how many of them there are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

from autoalign.cluster import Cluster
from autoalign.config.engine import EngineConfig
from autoalign.errors import ConfigError
from autoalign.room import Need
from autoalign.sampling.worker import WorkerSpec

DEFAULT_CONCURRENCY = {"vllm": 256, "openai": 32, "serve": 32, "hf": 16, "fake": 256}
_PARTS = 4  # tasks whose answers make up what an engine works on together
# A task is not over before its longest answer: with lengths spread lognormally, of 256 answers together, four
# times as many tasks leave 57% of an engine at work, six times 84%, eight times 98%. More and smaller tasks
# would do with fewer answers on their way, but each of them costs Ray Data milliseconds.
CALLS = 8 * _PARTS
_WORTH = 16  # an engine is worth its start for this part of what it works on together
_WAITING = 2  # tasks that lie beside the engine already
# An engine is added when those there have twice what they work on, and taken away below half of it.
FULL, IDLE = 2 * _PARTS / CALLS, _PARTS / 2 / CALLS


class Replicas(NamedTuple):
    """From `fewest` to `most` engines; Ray adds one while those there are full, and takes idle ones away."""

    fewest: int
    most: int

    @classmethod
    def of(cls, config: EngineConfig) -> Replicas:
        """As many as the config names."""
        return cls(config.min_replicas, config.max_replicas)

    def at_most(self, count: int) -> Replicas:
        """No more than there is work for."""
        return Replicas(min(self.fewest, count), min(self.most, count))


def on_cluster(spec: WorkerSpec, replicas: Replicas, cluster: Cluster, threads: int | None) -> WorkerSpec:
    """`spec` with what the cluster decides: whether there are GPUs, and each engine's CPU threads."""
    share = threads or max(1, int(cluster.real_cpus) // replicas.most)
    return replace(spec, options=replace(spec.options, use_gpu=cluster.gpus > 0, threads=share))


def gpus(spec: WorkerSpec) -> int:
    """GPUs that one engine takes."""
    if not spec.options.use_gpu or spec.backend in ("openai", "serve", "fake"):
        return 0
    return spec.options.tensor_parallel_size * spec.options.pipeline_parallel_size


def require_room(spec: WorkerSpec, replicas: Replicas, cluster: Cluster) -> None:
    """Raises ConfigError when the cluster can't hold the replicas: Ray would wait for ever without a word."""
    each, count = gpus(spec), replicas.fewest
    if each and count * each > cluster.gpus:
        raise ConfigError(
            f"{count} replicas of {each} GPUs need {count * each}; "
            f"the cluster has {cluster.gpus:g}: lower --num_replicas or --tensor_parallel_size"
        )
    if count > cluster.cpus:
        raise ConfigError(f"{count} replicas need as many CPUs; the cluster has {cluster.cpus:g}")


def need(spec: WorkerSpec, replicas: Replicas) -> Need:
    """What the engines take of the cluster; a pipeline's GPUs may lie on several nodes."""
    each, parts = gpus(spec), 1
    if each and spec.options.pipeline_parallel_size > 1:
        each, parts = 1, each
    amounts = {"CPU": 1.0} | ({"GPU": float(each)} if each else {})
    what = "engine" if parts == 1 else "GPU of an engine"
    return Need(amounts, replicas.fewest * parts, replicas.most * parts, what)


def in_flight(spec: WorkerSpec) -> int:
    """Requests that one engine works on together."""
    return spec.options.concurrency or DEFAULT_CONCURRENCY[spec.backend]


def answers_a_task(spec: WorkerSpec) -> int:
    """How many answers a task of the pipeline asks for, in a job that has many."""
    return max(1, math.ceil(in_flight(spec) / _PARTS))


class Division(NamedTuple):
    """How a job is divided: prompts of a task, and the engines."""

    prompts_a_task: int
    pool: Replicas


def divided(spec: WorkerSpec, pool: Replicas, n: int, prompts: int | None) -> Division:
    """Tasks and engines for a job; a small one is divided finer, so that all engines get as much of it.

    Args:
        n: answers to a prompt, at most.
        prompts: how many there are at most; None: not known, many.
    """
    size = max(1, answers_a_task(spec) // n)
    if prompts is None:
        return Division(size, pool)
    worth = max(1, math.ceil(in_flight(spec) / _WORTH) // n)
    pool = pool.at_most(max(1, -(-prompts // worth)))
    return Division(max(1, min(size, prompts // (_PARTS * pool.most))), pool)


def tasks_ahead(replicas: Replicas) -> int:
    """Tasks that keep every engine busy, with a few more on their way."""
    return (CALLS + 2 * _WAITING) * replicas.most


def actor_pool(replicas: Replicas) -> Any:
    """Ray Data's pool of engines."""
    import ray

    return ray.data.ActorPoolStrategy(
        min_size=replicas.fewest,
        max_size=replicas.most,
        max_concurrent_calls_per_actor=CALLS,
        max_tasks_in_flight_per_actor=CALLS + _WAITING,
        enable_true_multi_threading=True,
    )


@contextmanager
def actor_options(spec: WorkerSpec) -> Iterator[dict[str, Any]]:
    """Ray's options for an engine's actor; placement groups made for them go with the block.

    One GPU, or several that share each layer on a node, are the actor's own. A pipeline may
    reach over nodes: vLLM then puts a Ray worker on each GPU of a placement group.
    """
    if not gpus(spec) or spec.options.pipeline_parallel_size == 1:
        yield {"num_cpus": 1, "num_gpus": gpus(spec) or None}
        return
    from ray.util import remove_placement_group

    groups: list[Any] = []
    try:
        yield {"num_cpus": 1, "ray_remote_args_fn": lambda: _placed(gpus(spec), groups)}
    finally:
        for group in groups:
            remove_placement_group(group)


def _placed(count: int, groups: list[Any]) -> dict[str, Any]:
    """A new placement group of `count` GPUs, the actor in its first bundle."""
    from ray.util import placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    groups.append(placement_group([{"GPU": 1, "CPU": 1}] * count, strategy="PACK"))
    strategy = PlacementGroupSchedulingStrategy(groups[-1], placement_group_capture_child_tasks=True)
    return {"scheduling_strategy": strategy}
