"""Room on a shared cluster: how many workers fit now, and what is missing where they don't.

Each worker's resources are asked for as a placement group of its own. That counts what
nodes can hold at this moment, also beside other jobs and after a node's death, and an
autoscaler sees what is wanted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from autoalign.errors import ResourcesMissing, StoppedEarly

_LOOK_EVERY = 0.25  # seconds
_SAY_FIRST, _SAY_EVERY = 5.0, 30.0  # seconds
_SETTLE = 5.0  # seconds without a change after which fewer workers than the most are taken

Amounts = Mapping[str, float]


@dataclass(frozen=True)
class Need:
    """What a job asks of a cluster: `per_worker` resources, from `fewest` to `most` times."""

    per_worker: Amounts
    fewest: int
    most: int


@dataclass(frozen=True)
class Supply:
    """What a cluster has: free and in all, and each living node's total."""

    free: Amounts
    total: Amounts
    nodes: Sequence[Amounts]


def wait_for_room(
    need: Need, timeout: float, say: Callable[[str], None], should_stop: Callable[[], bool]
) -> int:
    """Wait until workers fit: all of them, or, when no more come, at least the fewest.

    Args:
        timeout: seconds to wait.
        say: takes a line on what is missing, after 5 seconds and then every 30.

    Returns:
        How many workers fit.

    Raises:
        ResourcesMissing: fewer than the fewest fit within `timeout`.
        StoppedEarly: `should_stop` said so.
    """
    began = changed = time.monotonic()
    say_at, before = began + _SAY_FIRST, 0
    with _seats(need.per_worker, need.most) as seats:
        while (ready := sum(map(_is_ready, seats))) < need.most:
            now = time.monotonic()
            if ready != before:
                changed, before = now, ready
            if ready >= need.fewest and now - changed >= _SETTLE:
                return ready
            if should_stop():
                raise StoppedEarly("stopped while it waited for resources; what was saved before stands")
            if now - began >= timeout:
                raise ResourcesMissing(
                    f"gave up after {timeout:g} s (--schedule_timeout): {missing(need, ready, _supply())}; "
                    "ask for less, add nodes, or wait longer"
                )
            if now >= say_at:
                say_at = now + _SAY_EVERY
                say(f"waits for resources ({now - began:.0f} s): {missing(need, ready, _supply())}")
            time.sleep(_LOOK_EVERY)
    return need.most


def missing(need: Need, ready: int, supply: Supply) -> str:
    """One line: how many workers fit, and for each resource what is asked, free and there.

    Args:
        ready: workers that fit; their resources count as free, as they are held for this job.
    """
    each = " + ".join(f"{amount:g} {name}" for name, amount in need.per_worker.items())
    wanted = f"{need.most}" if need.fewest == need.most else f"{need.fewest} to {need.most}"
    parts = []
    for name, amount in need.per_worker.items():
        largest = max((node.get(name, 0.0) for node in supply.nodes), default=0.0)
        total, free = supply.total.get(name, 0.0), supply.free.get(name, 0.0) + ready * amount
        text = f"{name}: {need.most * amount:g} asked, {free:g} free, {total:g} in all"
        if not largest:
            text = f"{name}: {need.most * amount:g} asked, in no node"
        elif largest < amount:
            text += f", and no node has {amount:g} (the largest {largest:g})"
        parts.append(text)
    return f"{wanted} worker(s) of {each} asked, room for {ready}. " + "; ".join(parts)


@contextmanager
def _seats(per_worker: Amounts, count: int) -> Iterator[list[Any]]:
    from ray.util.placement_group import placement_group, remove_placement_group

    seats = [placement_group([dict(per_worker)]) for _ in range(count)]
    try:
        yield seats
    finally:
        for seat in seats:
            remove_placement_group(seat)


def _is_ready(seat: Any) -> bool:
    from ray.util.placement_group import placement_group_table

    return bool(placement_group_table(seat).get("state") == "CREATED")


def _supply() -> Supply:
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return Supply(ray.available_resources(), ray.cluster_resources(), nodes)
