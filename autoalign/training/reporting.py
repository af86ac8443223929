"""How a running job tells its owner where it is, and how the owner asks it to stop."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from autoalign.progress import ProgressBar


class Reporter(Protocol):
    """What the loop needs of whoever watches it; rank 0 alone calls it."""

    def emit(self, event: Mapping[str, Any]) -> None:
        """Show an event.

        `step`, `note` and `count` are for people. `start` (the steps done before, once metrics.jsonl
        holds no later ones) and `row` (a line of metrics.jsonl) are for trackers.
        """

    def should_stop(self) -> bool:
        """Whether a clean stop was asked for."""


def counted(what: str, done: int, total: int) -> dict[str, Any]:
    """The event that says how far a part of the job is."""
    return {"kind": "count", "what": what, "done": done, "total": total}


class Display:
    """Shows events: a bar with loss, tokens/s and time left on a terminal, plain lines elsewhere."""

    def __init__(self, title: str, quiet: bool = False) -> None:
        self._bar = ProgressBar(title, quiet=quiet)
        self._title = title
        self._step_shown: int | None = None
        self.watcher: Callable[[Mapping[str, Any]], None] | None = None

    def show(self, event: Mapping[str, Any]) -> None:
        """Show one event, and hand it to the watcher."""
        if self.watcher is not None:
            self.watcher(event)
        if event["kind"] == "step":
            self._step(event)
        elif event["kind"] == "note":
            self.note(str(event["text"]))
        elif event["kind"] == "count":
            self.count(event["what"], event["done"], event["total"])

    def note(self, text: str) -> None:
        """Print one line."""
        self._bar.say(text)

    def count(self, what: str, done: int, total: int | None = None) -> None:
        """Show how far a part of the job is, where it takes long enough to be seen."""
        if done != total:
            text = f"{what}: {done}{f' of {total}' if total else ''} rows"
            self._bar.update(self._step_shown or 0, lambda: text, description=text)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._bar.stop()

    def _step(self, event: Mapping[str, Any]) -> None:
        if self._step_shown is None:
            self._bar.start(event["total_steps"])
        self._step_shown = event["step"]
        self._bar.update(
            event["step"],
            lambda: _line(event),
            figures=f"{_result(event)}  {event['tokens_per_second']:.0f} tok/s",
            description=self._title,
            now=event["step"] in (1, event["total_steps"]),
        )


def _line(event: Mapping[str, Any]) -> str:
    left = time.strftime("%H:%M:%S", time.gmtime(event["seconds_left"]))
    return (
        f"step {event['step']}/{event['total_steps']}  {_result(event)}  lr {event['lr']:.2e}  "
        f"{event['tokens_per_second']:.0f} tok/s  {left} left"
    )


def _result(event: Mapping[str, Any]) -> str:
    """The loss, and of pairs how they are told apart; of answers that are rewarded their reward alone."""
    if "reward" in event:
        return f"reward {event['reward']:.4f}"
    told = f"loss {event['loss']:.4f}"
    if "rewards/accuracies" in event:
        told += f"  accuracy {event['rewards/accuracies']:.2f}  margin {event['rewards/margins']:.3f}"
    return told


class LocalReporter:
    """Loop and display in one process; SIGTERM and Ctrl-C ask for a stop."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._stop = threading.Event()

    def emit(self, event: Mapping[str, Any]) -> None:
        self._display.show(event)

    def should_stop(self) -> bool:
        return self._stop.is_set()

    def request_stop(self) -> None:
        """Ask for a clean stop."""
        self._stop.set()


@contextmanager
def stop_on_signals(request_stop: Any) -> Iterator[None]:
    """Call `request_stop` at the first SIGTERM or SIGINT; a second one ends the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kinds = (signal.SIGTERM, signal.SIGINT)
    before = {kind: signal.getsignal(kind) for kind in kinds}

    def handle(number: int, frame: Any) -> None:
        print("stopping after this step; a second signal stops at once", file=sys.stderr, flush=True)
        request_stop()
        for kind in kinds:
            signal.signal(kind, before[kind])

    for kind in kinds:
        signal.signal(kind, handle)
    try:
        yield
    finally:
        for kind in kinds:
            signal.signal(kind, before[kind])
