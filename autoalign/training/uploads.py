"""Copies finished checkpoints to `storage_path` beside training, again and again until they are there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from autoalign.training import mirror, watchdog
from autoalign.training.storage import Storage, StorageError

FINAL_MODEL = "the final model"
_FIRST_DELAY, _LONGEST_DELAY = 1.0, 300.0  # seconds between attempts; doubled each time


@dataclass
class _Upload:
    """Something on its way."""

    name: str
    best: int | None
    done: set[str] = field(default_factory=set)
    blocks: int = 0
    furthest: tuple[int, int] = (0, 0)

    def moved(self) -> bool:
        """Count a block; whether no attempt has been that far before."""
        self.blocks += 1
        here = (len(self.done), self.blocks)
        is_new, self.furthest = here > self.furthest, max(here, self.furthest)
        return is_new


class Uploader:
    """A thread with a queue of what is to be copied; its failures are told, and never end the job.

    Args:
        keep: newest checkpoints to keep there; None keeps all.
        tell: takes a line for whoever watches; called from the thread.
    """

    def __init__(
        self, storage: Storage, output_dir: Path, keep: int | None, tell: Callable[[str], None]
    ) -> None:
        self._storage, self._output_dir, self._keep, self._tell = storage, output_dir, keep, tell
        self._changed = threading.Condition()
        self._waiting: list[_Upload] = []
        self._under_way: _Upload | None = None
        self._is_ending = self._closed = False
        self._reason = ""
        self._moved_at = time.monotonic()
        self._thread: threading.Thread | None = None

    def submit(self, name: str, best: int | None = None) -> None:
        """Copy `output_dir/NAME` (or the final model) as soon as can be; return at once.

        Args:
            best: the step whose checkpoint is never deleted there.
        """
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="upload", daemon=True)
                self._thread.start()
            self._waiting.append(_Upload(name, best))
            self._changed.notify_all()

    def let_go(self, name: str) -> bool:
        """Forget `name`, which is about to be deleted here; False while it is being copied."""
        with self._changed:
            if self._under_way is not None and self._under_way.name == name:
                return False
            self._waiting = [upload for upload in self._waiting if upload.name != name]
            return True

    def finish(self, patience: float) -> str | None:
        """Wait until all is there, or nothing has moved for `patience` seconds; then stop.

        Returns:
            What is not there, and why; None when all is.
        """
        with self._changed:
            self._moved_at, self._is_ending = time.monotonic(), True
            self._changed.notify_all()
            while self._left() and (quiet := time.monotonic() - self._moved_at) < patience:
                self._changed.wait(max(0.01, min(1.0, patience - quiet)))
            self._closed = True
            self._changed.notify_all()
            left = [upload.name for upload in self._left()]
        if not left:
            return None
        return f"{', '.join(left)}: {self._reason or f'nothing has moved for {patience:g} s'}"

    def _left(self) -> list[_Upload]:
        return [*([self._under_way] if self._under_way else []), *self._waiting]

    def _work(self) -> None:
        delay = 0.0
        while (upload := self._next(delay)) is not None:
            try:
                self._copy(upload)
            except StorageError as error:
                delay = min(max(_FIRST_DELAY, 2 * delay), _LONGEST_DELAY)
                self._put_back(upload, str(error), delay)
                continue
            if delay:
                self._tell(f"storage_path {self._storage.url} is back: {upload.name} is there")
            delay = 0.0
            with self._changed:
                self._under_way, self._reason = None, ""
                self._changed.notify_all()

    def _next(self, delay: float) -> _Upload | None:
        """What to copy next, after `delay` seconds; None at the end."""
        with self._changed:
            since = time.monotonic()
            while not self._closed:
                # At the job's end nobody wants to wait for a long delay.
                pause = min(delay, _FIRST_DELAY) if self._is_ending else delay
                left = since + pause - time.monotonic()
                if self._waiting and left <= 0:
                    break
                self._changed.wait(left if self._waiting else None)
            if self._closed:
                return None
            self._under_way = self._waiting.pop(0)
            return self._under_way

    def _copy(self, upload: _Upload) -> None:
        is_model = upload.name == FINAL_MODEL
        folder = self._output_dir if is_model else self._output_dir / upload.name
        upload.blocks = 0
        try:
            mirror.send_figures(self._storage, self._output_dir)
            name = "" if is_model else upload.name
            mirror.send(self._storage, folder, name, lambda: self._moved(upload), upload.done)
        except FileNotFoundError:
            return  # deleted here meanwhile
        except ValueError as error:
            self._tell(f"{error}: it is not copied to {self._storage.url}")
            return
        mirror.prune(self._storage, self._keep, upload.best)

    def _moved(self, upload: _Upload) -> None:
        if upload.moved():
            self._moved_at = time.monotonic()
            watchdog.touch()

    def _put_back(self, upload: _Upload, reason: str, delay: float) -> None:
        with self._changed:
            self._under_way, self._reason = None, reason
            self._waiting.insert(0, upload)
            count = len(self._waiting)
            self._changed.notify_all()
        self._tell(
            f"warning: {reason}; {upload.name} is not copied, {count} waiting; the files are in "
            f"{self._output_dir}, training goes on, and copying is tried again in {delay:g} s"
        )
