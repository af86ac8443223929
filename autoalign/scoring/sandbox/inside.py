"""The sandbox's own program: reads a task from stdin, confines itself, runs it, tells of it on stdout.

Task: {folder, cpu_seconds, memory_bytes, file_bytes, program, tests, token}. Each test runs after the
program, in its namespace; one line of JSON at the end holds the token, what held,
and for each test None or its error.
"""

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import confine


class Silence(io.TextIOBase):
    """Takes what a program prints, and forgets it."""

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """Nothing is kept."""
        return len(text)


def main() -> None:
    """Run the task."""
    task = json.load(sys.stdin)
    answer = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    token = task.pop("token")
    held = confine.confine(task["folder"], task["cpu_seconds"], task["memory_bytes"], task["file_bytes"])
    results = list(_results(task["program"], task["tests"]))
    answer.write(json.dumps({"token": token, "held": held, "results": results}))
    answer.flush()
    os._exit(0)


def _results(program: str, tests: list[str]) -> Iterator[str | None]:
    namespace: dict[str, Any] = {"__name__": "__sandbox__"}
    with contextlib.redirect_stdout(Silence()), contextlib.redirect_stderr(Silence()):
        error = _error(program, namespace)
        for test in tests:
            yield error or _error(test, namespace)


def _error(code: str, namespace: dict[str, Any]) -> str | None:
    try:
        exec(compile(code, "<answer>", "exec"), namespace)  # noqa: S102 (what a sandbox is for)
    except BaseException as error:  # a model's program may raise anything
        return f"{type(error).__name__}: {error}"[:200]
    return None


if __name__ == "__main__":
    main()
