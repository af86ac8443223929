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

_INSIDE = Path(__file__).with_name("inside.py")
_FILE_BYTES = 16 << 20
# What is held, and what the kernel needs for it.
MEASURES = {
    "limits": "rlimits",
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
    with tempfile.TemporaryDirectory(prefix="autoalign-sandbox-") as folder:
        task = {
            "folder": folder,
            "cpu_seconds": max(1, int(timeout) + 1),
            "memory_bytes": memory_mb << 20,
            "file_bytes": _FILE_BYTES,
            "program": program,
            "tests": list(tests),
            "token": token,
        }
        said = _start(json.dumps(task), folder, timeout)
    if said is None:
        return Ran((f"it took more than {timeout:g} s",) * len(tests))
    try:
        told = json.loads(said)
    except ValueError:
        told = {}
    if not isinstance(told, dict) or told.get("token") != token or len(told["results"]) != len(tests):
        return Ran(("the program ended before its tests: out of memory, or it left",) * len(tests))
    return Ran(tuple(told["results"]), tuple(told["held"]))


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


def _start(task: str, folder: str, timeout: float) -> str | None:
    """What the process says; None when its time is over."""
    # One thread: thread pools of numerical libraries would reserve the whole address space.
    environment = {
        "PATH": "/usr/bin:/bin",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    try:
        process = subprocess.Popen(
            [sys.executable, "-s", "-B", str(_INSIDE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env=environment,
            text=True,
            start_new_session=True,
        )
    except OSError as error:
        raise JobFailed(f"no process can be started for the code scorer: {error}") from error
    try:
        return process.communicate(task, timeout=timeout)[0]
    except subprocess.TimeoutExpired:
        return None
    finally:
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """Kill the process and all that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
