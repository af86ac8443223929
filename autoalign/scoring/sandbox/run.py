"""Runs a model's program with its tests in a process of its own."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoalign.errors import JobFailed
from autoalign.scoring.sandbox.removal import remove_tree

_INSIDE = Path(__file__).with_name("inside.py")
_FILE_BYTES = 16 << 20
_RESULT_BYTES = 2500  # of a test: 200 characters, of 12 bytes each at the most
# What is held, and what the kernel needs for it.
MEASURES = {
    "limits": "rlimits, and root's capabilities dropped",
    "files": "Landlock of Linux 6.2, before which a program can empty files that it may read",
    "system calls": "seccomp on x86-64 or aarch64",
}


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of a program.

    Attributes:
        errors: for each test None, or why it failed.
        held: which of `MEASURES` the kernel has.
    """

    errors: tuple[str | None, ...]
    held: tuple[str, ...] = ()


def run(program: str, tests: Sequence[str], timeout: float, memory_mb: int) -> Ran:
    """Run `program`, then each test in its namespace.

    Args:
        timeout: seconds for all of it together.
        memory_mb: address space, Python's own 30 MB among it.

    Raises:
        JobFailed: no process can be started.
    """
    token = secrets.token_hex(16)
    folder = tempfile.mkdtemp(prefix="autoalign-sandbox-")
    try:
        task = {
            "folder": folder,
            "cpu_seconds": max(1, int(timeout) + 1),
            "memory_bytes": memory_mb << 20,
            "file_bytes": _FILE_BYTES,
            "program": program,
            "tests": list(tests),
            "token": token,
        }
        said = _start(json.dumps(task), folder, timeout, _RESULT_BYTES * (len(tests) + 1))
    finally:
        problem = _removed(folder)
    if problem is not None:
        return Ran((problem,) * len(tests))
    if said is None:
        return Ran((f"it took more than {timeout:g} s",) * len(tests))
    try:
        told = json.loads(said)
    except (ValueError, RecursionError):  # no JSON, or so deep that nobody can read it
        told = {}
    if not isinstance(told, dict) or told.get("token") != token or len(told["results"]) != len(tests):
        return Ran(("the program ended before its tests: out of memory, or it left",) * len(tests))
    return Ran(tuple(told["results"]), tuple(told["held"]))


def _removed(folder: str) -> str | None:
    """Remove what the program left; None, or why it can't be removed, which is the program's doing."""
    try:
        remove_tree(folder)
    except FileNotFoundError:  # it did so itself, where the kernel let it
        return None
    except OSError as error:
        return f"the program's folder can't be removed: {folder}: {error.strerror or error}"
    return None


def warn_of_missing(memory_mb: int) -> None:
    """Say on stderr which measures this machine's kernel does not have."""
    if told := lacking(run("", ["pass"], timeout=60.0, memory_mb=memory_mb).held):
        print(f"warning: {told}", file=sys.stderr, flush=True)


def lacking(held: Collection[str]) -> str | None:
    """What to say where measures are missing."""
    missing = [f"{measure} ({needs})" for measure, needs in MEASURES.items() if measure not in held]
    if not missing:
        return None
    return (
        f"the sandbox for programs that models write is not whole: this kernel lacks {'; '.join(missing)}; "
        "run it in a container (docs/scoring.md)"
    )


def _start(task: str, folder: str, timeout: float, most: int) -> str | None:
    """The first `most` bytes of what the process says; None when its time is over."""
    # One thread: thread pools of numerical libraries would reserve the whole address space.
    environment = {
        "PATH": "/usr/bin:/bin",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    with tempfile.TemporaryFile() as said:  # a pipe would bring any amount of output into our memory
        try:
            process = subprocess.Popen(
                [sys.executable, "-s", "-B", str(_INSIDE)],
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise JobFailed(f"no process can be started for the code scorer: {error}") from error
        try:
            process.communicate(task.encode(), timeout=timeout)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _end(process)
        said.seek(0)
        return said.read(most).decode(errors="replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and all that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
