"""One piece of work at a time, done in a thread beside the training loop."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Background:
    """Runs one function at a time; what it raises comes up in the caller's next `check` or `wait`."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self, work: Callable[[], None]) -> None:
        """Wait for what is under way, then start `work`."""
        self.wait()
        # A daemon: a second signal ends the process at once, whatever is half written.
        self._thread = threading.Thread(target=self._run, args=(work,), name="checkpoint", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise what a piece of work that has ended raised; return at once."""
        if self._thread is not None and not self._thread.is_alive():
            self.wait()

    def join(self) -> None:
        """Wait for the work under way, and raise nothing."""
        if self._thread is not None:
            self._thread.join()

    def wait(self) -> None:
        """Wait for the work under way, and raise what it raised."""
        self.join()
        self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # a thread's end: the loop's thread raises it
            self._error = error
