"""CPUs of this machine, claimed by engines so that no two bind their threads to the same ones."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


class Cores:
    """Claims on CPUs, which end with this process or `release`.

    Args:
        count: how many; None, or more than this machine has: all of them.

    Attributes:
        wanted: how many were asked for.
    """

    def __init__(self, count: int | None = None, folder: Path | None = None) -> None:
        there = sorted(os.sched_getaffinity(0))
        self.wanted = min(count or len(there), len(there))
        folder = folder or Path(tempfile.gettempdir()) / f"autoalign-cpus-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        self._held: dict[int, IO[bytes]] = {}
        for cpu in there:
            if len(self._held) < self.wanted and (file := _locked(folder / str(cpu))):
                self._held[cpu] = file
        if len(self._held) < self.wanted:
            self.release()

    @property
    def claimed(self) -> list[int]:
        """Their numbers; none where fewer are free than wanted: threads are better left unbound then."""
        return sorted(self._held)

    def variables(self) -> dict[str, str]:
        """What gives a vLLM process a thread on each of them; nothing where the user has decided.

        Left alone, Ray gives an actor one thread, and vLLM's engine a core less than there are. Setting
        VLLM_CPU_OMP_THREADS_BIND decides otherwise.
        """
        if "VLLM_CPU_OMP_THREADS_BIND" in os.environ:
            return {}
        bind = ",".join(map(str, self.claimed)) or "nobind"
        return {"OMP_NUM_THREADS": str(self.wanted), "VLLM_CPU_OMP_THREADS_BIND": bind}

    def release(self) -> None:
        """Give them up."""
        _close(self._held.values())
        self._held.clear()


@contextmanager
def bound(cores: Cores | None) -> Iterator[None]:
    """Engines started in the block have a thread on each of `cores`; None: as vLLM has it."""
    variables = cores.variables() if cores is not None else {}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables.keys() - {"OMP_NUM_THREADS"}:
            del os.environ[name]


def _locked(path: Path) -> IO[bytes] | None:
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _close(files: Iterable[IO[bytes]]) -> None:
    for file in files:
        file.close()
