"""Room for training on a shared cluster: how many workers fit now.

Each worker's resources are asked for as a placement group of its own. That counts what
nodes can hold at this moment, also beside other jobs and after a node's death, and an
autoscaler sees what is wanted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from autoalign.errors import ResourcesMissing, StoppedEarly
from autoalign.room import Amounts, Need, missing, supply, waits

_LOOK_EVERY = 0.25  # seconds
_SAY_FIRST, _SAY_EVERY = 5.0, 30.0  # seconds
_SETTLE = 5.0  # seconds without a change after which fewer workers than the most are taken


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
    with _seats(need.each, need.most) as seats:
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
                    f"gave up after {timeout:g} s (--schedule_timeout): {missing(need, ready, supply())}; "
                    "ask for less, add nodes, or wait longer"
                )
            if now >= say_at:
                say_at = now + _SAY_EVERY
                say(waits(need, ready, supply(), now - began))
            time.sleep(_LOOK_EVERY)
    return need.most


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
