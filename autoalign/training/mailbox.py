"""An actor between the workers and the driver. It imports nothing heavy, so that it starts at once."""

from __future__ import annotations

import time
from typing import Any, NamedTuple


class Sign(NamedTuple):
    """A worker's last sign of life.

    Attributes:
        worker: its Ray actor's handle.
        node_id: Ray's id of its node.
        where: host and process, for messages.
        idle: seconds since it last moved, as it said.
    """

    worker: Any
    node_id: str
    where: str
    idle: float = 0.0


class Mailbox:
    """Keeps events until the driver takes them, and what the driver wants until the workers see it."""

    def __init__(self) -> None:
        self._events: list[dict[str, Any]] = []
        self._stop = False
        self._wants_stacks = False
        self._signs: dict[int, Sign] = {}
        self._moved_at = time.monotonic()

    def put(self, event: dict[str, Any]) -> None:
        self._events.append(event)

    def take(self) -> list[dict[str, Any]]:
        events, self._events = self._events, []
        return events

    def request_stop(self) -> None:
        self._stop = True

    def should_stop(self) -> bool:
        return self._stop

    def sign(self, rank: int, sign: Sign) -> bool:
        """Take a worker's sign of life.

        Returns:
            Whether its stacks are wanted.
        """
        self._signs[rank] = sign
        self._moved_at = max(self._moved_at, time.monotonic() - sign.idle)
        return self._wants_stacks

    def signs(self) -> dict[int, Sign]:
        return self._signs

    def idle(self) -> float:
        """Seconds in which no worker has moved; 0 before the first sign of life."""
        return time.monotonic() - self._moved_at if self._signs else 0.0

    def request_stacks(self) -> None:
        self._wants_stacks = True
