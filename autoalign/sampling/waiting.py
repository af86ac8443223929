"""What engines wait for on a shared cluster, said while they do: Ray waits without a word."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from autoalign import room
from autoalign.room import Need, Supply

_LOOK_EVERY = 1.0  # seconds
_SAY_FIRST, _SAY_EVERY = 10.0, 30.0  # seconds; a process takes a few to start where there is room

Say = Callable[[str], None]


class Waiting:
    """Says what is missing while fewer than `enough` have a place.

    Args:
        need: what all of them ask for.
        say: takes a line after 10 seconds and then every 30, and one when the wait is over.
        supply: what the cluster has now.
    """

    def __init__(self, need: Need, enough: int, say: Say, supply: Callable[[], Supply] = room.supply) -> None:
        self._need, self._enough, self._say, self._supply = need, enough, say, supply
        self._say_at, self._has_said = _SAY_FIRST, False

    def look(self, seconds: float, placed: int) -> bool:
        """Look once.

        Args:
            seconds: since the first was asked for.
            placed: how many have a place.

        Returns:
            whether there is nothing more to wait for.
        """
        if placed >= self._enough:
            if self._has_said:
                self._say(f"has what it waited for after {seconds:.0f} s")
            return True
        if seconds >= self._say_at:
            there = self._supply()
            if room.lacks(self._need, there):
                self._say(room.waits(self._need, placed, there, seconds))
                self._say_at, self._has_said = seconds + _SAY_EVERY, True
        return False


@contextmanager
def told(waiting: Waiting, placed: Callable[[], int]) -> Iterator[None]:
    """`waiting` looks once a second beside the block, until it is over or nothing is waited for.

    Args:
        placed: asks Ray how many have a place.
    """
    over, began = threading.Event(), monotonic()

    def watch() -> None:
        from ray.exceptions import GetTimeoutError, RayError

        while not over.wait(_LOOK_EVERY):
            try:
                if waiting.look(monotonic() - began, placed()):
                    return
            except GetTimeoutError:  # what it asks has yet to start itself
                continue
            except RayError:  # it has died; the block is told so too
                return

    thread = threading.Thread(target=watch, name="waiting-for-room", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
