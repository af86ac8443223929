"""How far reading has come: a line that is redrawn on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from autoalign.formats._files import on_open

TERMINAL_EVERY, ELSEWHERE_EVERY = 1.0, 15.0  # seconds; what is done before the first says nothing
CLEAR = "\r\x1b[K"


class _Opened(NamedTuple):
    path: str
    handle: BinaryIO
    size: int
    start: float


@contextlib.contextmanager
def progress() -> Iterator[None]:
    """Report on stderr about the data file that is being read inside the `with` block.

    A thread looks at the file's position, so that reading itself does not pay for it.
    """
    opened: list[_Opened] = []
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(opened, done), daemon=True)
    token = on_open.set(lambda path, handle: opened.append(_opened(path, handle)))
    watcher.start()
    try:
        yield
    finally:
        on_open.reset(token)
        done.set()
        watcher.join()


def _opened(path: str, handle: BinaryIO) -> _Opened:
    size = getattr(handle, "size", None)
    if size is None:
        with contextlib.suppress(OSError):
            size = os.fstat(handle.fileno()).st_size
    return _Opened(path, handle, size or 0, time.monotonic())


def _watch(opened: list[_Opened], done: threading.Event) -> None:
    terminal = sys.stderr.isatty()
    drawn = False
    while not done.wait(TERMINAL_EVERY if terminal else ELSEWHERE_EVERY):
        line = _line(opened[-1]) if opened else ""
        if line and terminal:
            print(f"{CLEAR}{line}", end="", file=sys.stderr, flush=True)
            drawn = True
        elif line:
            print(line, file=sys.stderr, flush=True)
    if drawn:
        print(CLEAR, end="", file=sys.stderr, flush=True)


def _line(file: _Opened) -> str:
    try:
        position = file.handle.tell()
    except ValueError:  # closed meanwhile
        return ""
    return describe(file.path, position, file.size, time.monotonic() - file.start)


def describe(path: str, position: int, size: int, seconds: float) -> str:
    """`a.jsonl: 50% of 200.0 MB, 10.0 MB/s, 10 s left`. `position`, `size`: bytes."""
    rate = position / max(seconds, 1e-9)
    if not size or not position:
        return f"{path}: {position / 1e6:.1f} MB read, {rate / 1e6:.1f} MB/s"
    left = (size - position) / rate
    return f"{path}: {position / size:.0%} of {size / 1e6:.1f} MB, {rate / 1e6:.1f} MB/s, {left:.0f} s left"
