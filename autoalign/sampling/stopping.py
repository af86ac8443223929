"""Ctrl-C and SIGTERM end a job the same way."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def stop_signals(on_stop: Callable[[], None] = lambda: None) -> Iterator[None]:
    """SIGTERM (`ray job stop`, `kill`) ends the job as Ctrl-C does, so that the engines go down with it.

    Goes inside a Ray session: Ray's own handler, set at its start, aborts the process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: Any) -> None:
        on_stop()
        raise KeyboardInterrupt

    before = {kind: signal.signal(kind, interrupt) for kind in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
