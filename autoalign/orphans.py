"""No child process outlives the process that started it, even when that one is killed with SIGKILL.

vLLM's engine core is a child process, and so is all of a Ray cluster of one's own. When
the parent dies without a chance to clean up, they (of Ray: its agents, and a worker that is
stopped) would keep their memory for ever. A guard, started beside them, remembers the
parent's descendants and kills them once the parent is gone.
It runs as `python orphans.py PID`, so this file imports nothing of AutoAlign.
"""

from __future__ import annotations

import contextlib
import select
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

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


def children() -> list[psutil.Process]:
    """This process's own children."""
    import psutil

    found: list[psutil.Process] = psutil.Process().children()
    return found


def family_of(roots: Iterable[psutil.Process]) -> list[psutil.Process]:
    """`roots` and all their descendants that live."""
    import psutil

    found = []
    for root in roots:
        with contextlib.suppress(psutil.NoSuchProcess):
            found += [root, *root.children(recursive=True)]
    return found


def end(processes: Sequence[psutil.Process], patience: float) -> None:
    """Kill those of `processes` that have not ended by themselves after `patience` seconds."""
    import psutil

    _, alive = psutil.wait_procs(processes, timeout=patience)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process.kill()


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
