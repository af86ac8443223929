"""No engine process outlives the process that started it, even when that one is killed with SIGKILL.

vLLM's engine core is a child process. When its parent dies without a chance to
clean up, the child would keep its memory for ever. A guard, started beside it,
remembers the parent's descendants and kills them once the parent is gone.
It runs as `python orphans.py PID`, so this file imports nothing of AutoAlign.
"""

from __future__ import annotations

import contextlib
import select
import subprocess
import sys
from pathlib import Path

_LOOK_EVERY = 0.5  # seconds
_DISMISSED = b"."


def guard_children() -> subprocess.Popen[bytes]:
    """Start the guard for this process; call it before the children are started.

    The guard waits on a pipe that only this process holds: the kernel closes it
    however the process ends. `dismiss` sends it away without harm.
    """
    import os

    return subprocess.Popen(
        [sys.executable, "-S", str(Path(__file__).resolve()), str(os.getpid()), *_psutil_folder()],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in the terminal is not for the guard
    )


def dismiss(guard: subprocess.Popen[bytes]) -> None:
    """End the guard once the children it was started for are gone; others of this process stay."""
    with contextlib.suppress(BrokenPipeError):
        guard.communicate(_DISMISSED, timeout=10)


def _psutil_folder() -> list[str]:
    """Where psutil lies: `-S` makes the guard small and quick, but hides site-packages."""
    import psutil

    return [str(Path(psutil.__file__).resolve().parents[1])]


def watch(pid: int) -> None:
    """Remember the descendants of `pid`; kill them when standard input closes without a word."""
    import psutil

    family: dict[int, psutil.Process] = {}
    alive = True
    while alive:
        alive = not select.select([sys.stdin], [], [], _LOOK_EVERY)[0]
        with contextlib.suppress(psutil.NoSuchProcess):
            found = psutil.Process(pid).children(recursive=True)
            family.update({child.pid: child for child in found})
    if sys.stdin.buffer.read(1) == _DISMISSED:
        return
    me = psutil.Process().pid
    for child in family.values():
        # psutil compares start times, so a reused pid is never hit.
        if child.pid != me:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                child.kill()


if __name__ == "__main__":
    sys.path.append(sys.argv[2])
    watch(int(sys.argv[1]))
