"""What engines take of a cluster: counts from the config, GPUs, threads."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush

import pytest

from autoalign.cluster import Cluster
from autoalign.config.engine import EngineConfig
from autoalign.errors import ConfigError
from autoalign.sampling.engines.base import EngineOptions, SamplingParams
from autoalign.sampling.replicas import (
    CALLS,
    Replicas,
    actor_options,
    answers_a_task,
    divided,
    gpus,
    on_cluster,
    require_room,
)
from autoalign.sampling.worker import WorkerSpec

EIGHT = Cluster(cpus=64, gpus=8, is_local=False)


def spec(**options: int) -> WorkerSpec:
    return WorkerSpec("vllm", EngineOptions("m", use_gpu=True, **options), SamplingParams(), 1)


@pytest.mark.parametrize(("given", "expected"), [(3, (3, 3)), ("1:4", (1, 4)), ("2", (2, 2))])
def test_replicas_of_a_config(given: int | str, expected: tuple[int, int]) -> None:
    assert Replicas.of(EngineConfig.build({"model_path": "m", "num_replicas": given})) == expected


@pytest.mark.parametrize("given", [0, "4:1", "a:b", "1:", True])
def test_a_wrong_number_of_replicas(given: object) -> None:
    with pytest.raises(ConfigError, match="num_replicas"):
        EngineConfig.build({"model_path": "m", "num_replicas": given})


def test_an_engine_takes_a_gpu_for_each_part_of_the_model() -> None:
    assert gpus(spec(tensor_parallel_size=4, pipeline_parallel_size=2)) == 8


def test_parts_of_a_layer_are_the_actors_own_gpus() -> None:
    with actor_options(spec(tensor_parallel_size=4)) as options:
        assert options == {"num_cpus": 1, "num_gpus": 4}


def test_room_is_needed_for_the_fewest_alone() -> None:
    require_room(spec(tensor_parallel_size=4), Replicas(2, 9), EIGHT)
    with pytest.raises(ConfigError, match="3 replicas of 4 GPUs need 12; the cluster has 8"):
        require_room(spec(tensor_parallel_size=4), Replicas(3, 9), EIGHT)


@pytest.mark.parametrize(("threads", "expected"), [(None, 16), (5, 5)])
def test_threads_are_shared_fairly(threads: int | None, expected: int) -> None:
    assert on_cluster(spec(), Replicas(1, 4), EIGHT, threads).options.threads == expected


def test_a_task_is_a_quarter_of_what_an_engine_does_at_once() -> None:
    assert answers_a_task(spec()) == 256 / 4
    assert answers_a_task(spec(concurrency=3)) == 1


@pytest.mark.parametrize(
    ("replicas", "n", "prompts", "expected"),
    [
        (2, 1, None, (64, 2)),
        (2, 4, None, (16, 2)),  # 64 answers
        (8, 1, 10_000, (64, 8)),
        (8, 1, 512, (16, 8)),  # four tasks each
        (8, 1, 40, (3, 3)),  # a sixteenth of 256 answers for each engine, the last one less
        (2, 300, 5, (1, 2)),
        (4, 1, 1, (1, 1)),
    ],
)
def test_a_small_job_is_divided_finer(
    replicas: int, n: int, prompts: int | None, expected: tuple[int, int]
) -> None:
    size, pool = divided(spec(), Replicas(1, replicas), n, prompts)
    assert (size, pool.most) == expected


def share_at_work(concurrency: int, length: Callable[[], float], answers: int = 20_000) -> float:
    """Of an engine that is given a new task when one is over, the share of its places that are taken."""
    size = answers_a_task(spec(concurrency=concurrency))
    left = [size] * CALLS
    waiting = deque(task for task in range(CALLS) for _ in range(size))
    at_work: list[tuple[float, int]] = []
    now = taken = 0.0
    for _ in range(answers):
        while waiting and len(at_work) < concurrency:
            heappush(at_work, (now + length(), waiting.popleft()))
        end, task = heappop(at_work)
        taken += (len(at_work) + 1) * (end - now)
        now = end
        left[task] -= 1
        if not left[task]:
            left[task] = size
            waiting.extend([task] * size)
    return taken / now / concurrency


@pytest.mark.parametrize("concurrency", [16, 256])
def test_long_answers_leave_no_place_of_an_engine_empty(concurrency: int) -> None:
    """A task ends with its longest answer; lengths spread exponentially, the mean is no matter."""
    draw = random.Random(1)
    assert share_at_work(concurrency, lambda: draw.expovariate(1)) > 0.98
