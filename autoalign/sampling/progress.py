"""How a sampling job shows that it moves."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import NamedTuple, Self

from autoalign.progress import ProgressBar

_SILENT = 60.0  # seconds after which an engine without work is taken to be gone


class Settled(NamedTuple):
    """Prompts that all answers are there of, and prompts that lack some for good."""

    answered: int = 0
    failed: int = 0


Watch = Callable[[Settled], None]


class SampleProgress(AbstractContextManager["SampleProgress"]):
    """Answers done, rates of rows and tokens, engines, what is in flight and waits, errors, time left.

    Args:
        total: answers to come.
        watch: told of the prompts settled so far, those of earlier runs among them; None: nobody asks.
    """

    def __init__(self, total: int, watch: Watch | None = None) -> None:
        self._total, self.watch = total, watch
        self._done = self._errors = self._tokens_in = self._tokens_out = 0
        self._since: float | None = None
        self._engines: dict[str, tuple[int, float]] = {}
        self._bar = ProgressBar("infer")

    def __enter__(self) -> Self:
        if not self._bar.on_terminal:
            self._bar.say("starting the engine")
        self._bar.start(self._total, "starting the engine")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        if not self._bar.on_terminal and kind is None and self._since is not None:
            self._bar.say(self._line())

    def note(self, text: str) -> None:
        """Print one line."""
        self._bar.say(text)

    def engine_ready(self, when: float) -> None:
        """Rates count from here (`time.time()`)."""
        if self._since is None or when < self._since:
            self._since = when

    def heard(self, replica: str, in_flight: int) -> None:
        """An engine has so many answers at work."""
        self._engines[replica] = (in_flight, time.monotonic())

    def advance(self, answers: int, errors: int, tokens_in: int, tokens_out: int) -> None:
        """So many more answers, failed ones, prompt tokens and output tokens."""
        self._done, self._errors = self._done + answers, self._errors + errors
        self._tokens_in, self._tokens_out = self._tokens_in + tokens_in, self._tokens_out + tokens_out
        self._bar.update(self._settled, self._line, figures=self._figures(), description="answers")

    @property
    def _settled(self) -> int:
        return self._done + self._errors

    def _line(self) -> str:
        """While the first answers of a full engine come in, their rate says nothing of the rest's."""
        settled, seconds = self._settled, self._seconds()
        steady = settled and settled >= self._in_flight()
        left = f", {seconds / settled * (self._total - settled):.0f} s left" if steady else ""
        return (
            f"{settled:,}/{self._total:,} answers, {self._figures()}{left if settled < self._total else ''}"
        )

    def _figures(self) -> str:
        seconds, in_flight = self._seconds(), self._in_flight()
        now = time.monotonic()
        engines = sum(count > 0 or now - when < _SILENT for count, when in self._engines.values())
        waiting = max(0, self._total - self._settled - in_flight)
        return (
            f"{self._settled / seconds:,.2f} rows/s, tok/s {self._tokens_in / seconds:,.0f} in "
            f"{self._tokens_out / seconds:,.0f} out, replicas {engines}, in flight {in_flight:,}, "
            f"waiting {waiting:,}, errors {self._errors:,}"
        )

    def _in_flight(self) -> int:
        return sum(count for count, _ in self._engines.values())

    def _seconds(self) -> float:
        """Since the engine was ready; at least one, so that no rate is told of a moment."""
        return max(time.time() - (self._since or time.time()), 1.0)
