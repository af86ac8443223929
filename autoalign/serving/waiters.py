"""Requests that wait until their model is found, or loaded: counted, and bounded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Gauge


class Waiters:
    """How many requests of each model wait, and the figure that shows it.

    A name is kept in the figure once a model of that name was found. Any other is there only while a request
    waits, so that made-up names leave nothing behind.

    Args:
        most: requests of one model that may wait.
        figure: of the requests that wait, by model.
    """

    def __init__(self, most: int, figure: Gauge) -> None:
        self._most, self._figure = most, figure
        self._waiting: Counter[str] = Counter()
        self._found: set[str] = set()

    def is_full(self, model: str) -> bool:
        """Whether no further request of the model may wait."""
        return self._waiting[model] >= self._most

    @contextmanager
    def one_more(self, model: str) -> Iterator[None]:
        """A request waits."""
        self._waiting[model] += 1
        self._figure.labels(model).inc()
        try:
            yield
        finally:
            self._figure.labels(model).dec()
            self._waiting[model] -= 1
            if not self._waiting[model]:
                del self._waiting[model]
                if model not in self._found:
                    self._figure.remove(model)

    def found(self, model: str) -> None:
        """There is a model of that name."""
        self._found.add(model)
