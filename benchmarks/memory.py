"""How the memory of a job's processes grows."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

import psutil

_EVERY = 1.0  # seconds


class MemoryWatch:
    """Resident memory of this process, and of it with all its descendants.

    Shared memory counts in each process that has touched it: Ray's object store is in the sum several times.
    """

    def __init__(self) -> None:
        self._me = psutil.Process()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._driver: list[int] = []
        self._all: list[int] = []
        self._base: int | None = None  # the sample from which growth counts

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def note(self) -> None:
        """Before the first row: memory is looked at from now on."""
        self._sample()
        self._thread.start()

    def start(self) -> None:
        """Growth counts from now; later calls do nothing."""
        if self._base is None:
            self._base = len(self._driver)
            self._sample()

    def growth(self) -> dict[str, float]:
        """MiB: before the first row, the most there was, and the most over what was there at `start`."""
        self._sample()
        mib, base = 2**20, self._base or 0
        return {
            "driver_before_mib": self._driver[0] / mib,
            "driver_mib": max(self._driver) / mib,
            "driver_growth_mib": (max(self._driver[base:]) - self._driver[base]) / mib,
            "all_before_mib": self._all[0] / mib,
            "all_mib": max(self._all) / mib,
            "all_growth_mib": (max(self._all[base:]) - self._all[base]) / mib,
        }

    def _look(self) -> None:
        while not self._ended.wait(_EVERY):
            self._sample()

    def _sample(self) -> None:
        own, total = self._me.memory_info().rss, 0
        for child in self._me.children(recursive=True):
            try:
                total += child.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        self._driver.append(own)
        self._all.append(own + total)
