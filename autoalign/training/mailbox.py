"""An actor between the workers and the driver. It imports nothing heavy, so that it starts at once."""

from __future__ import annotations

from typing import Any


class Mailbox:
    """Keeps events until the driver takes them, and a stop request until the workers see it."""

    def __init__(self) -> None:
        self._events: list[dict[str, Any]] = []
        self._stop = False

    def put(self, event: dict[str, Any]) -> None:
        self._events.append(event)

    def take(self) -> list[dict[str, Any]]:
        events, self._events = self._events, []
        return events

    def request_stop(self) -> None:
        self._stop = True

    def should_stop(self) -> bool:
        return self._stop
