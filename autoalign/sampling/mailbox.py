"""How answers get from an engine's event loop to the thread that waits for them: in bundles.

A bundle wakes that thread once, and costs Ray one message, where an answer alone would take as much.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterator
from typing import NamedTuple

from autoalign.sampling.messages import Answer

MOMENT = 0.05  # seconds that the first answer of a bundle waits for others
MOST = 1024  # answers of a bundle


class Bundle(NamedTuple):
    """Answers that finished one soon after the other; behind the last bundle nothing comes."""

    answers: list[Answer]
    is_last: bool = False


class Mailbox:
    """`take`, or iterating, is for the thread that waits; the other methods are called in the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._bundles: queue.SimpleQueue[Bundle | Exception] = queue.SimpleQueue()
        self._open: list[Answer] = []
        self._timer: asyncio.TimerHandle | None = None
        self._at_work: int | None = None

    def expect(self, count: int) -> None:
        """So many answers more are at work; a bundle then waits for no more than half of them.

        Who keeps the engine busy by the answers that come would leave it idle while the last ones wait.
        """
        self._at_work = (self._at_work or 0) + count

    def put(self, answer: Answer) -> None:
        """An answer more."""
        self._open.append(answer)
        if self._at_work is not None:
            self._at_work -= 1
        if len(self._open) >= (MOST if self._at_work is None else min(MOST, max(1, self._at_work))):
            self._send()
        elif self._timer is None:
            self._timer = self._loop.call_later(MOMENT, self._send)

    def fail(self, error: Exception) -> None:
        """What finished before is passed on; behind it comes the error."""
        self._send()
        self._bundles.put(error)

    def end(self) -> None:
        """All that is still to be passed on is the last bundle."""
        self._send(is_last=True)

    def take(self) -> Bundle:
        """The next bundle; waits for it. Raises the error of `fail`."""
        bundle = self._bundles.get()
        if isinstance(bundle, Exception):
            raise bundle
        return bundle

    def __iter__(self) -> Iterator[Bundle]:
        """The bundles up to the last one."""
        while True:
            bundle = self.take()
            yield bundle
            if bundle.is_last:
                return

    def _send(self, is_last: bool = False) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._open or is_last:
            self._bundles.put(Bundle(self._open, is_last))
            self._open = []
