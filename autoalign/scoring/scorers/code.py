"""Does the answer's Python program pass its tests? The share that it passes (arXiv:2107.03374).

The program is the answer's last fenced block, or the whole answer. What the sandbox holds and what it
does not is in docs/scoring.md.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from autoalign.curation.answers import Answer, find
from autoalign.scoring.fences import last_block
from autoalign.scoring.sandbox.run import run, warn_of_missing
from autoalign.scoring.scorer import CannotScore, Job, Outcome, Score, Unscorable

TESTS_KEYS = ("tests", "test_list", "test", "extra.tests", "extra.test_list", "extra.test")
_PYTHON = ("python", "py", "python3", "py3")


@dataclass(frozen=True)
class Options:
    """What may be set.

    Args:
        tests_key: where the row holds its tests, Python text or a list of it; None: usual places.
        timeout: seconds for the program with all its tests.
        memory_mb: address space of one program.
        num_workers: programs at once; None: one a CPU.
    """

    tests_key: str | None = None
    timeout: float = 10.0
    memory_mb: int = 1024
    num_workers: int | None = None


class CodeScorer:
    """Runs several programs at once, each in a process of its own."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._pool = ThreadPoolExecutor(options.num_workers or os.cpu_count() or 1)

    def score(self, answers: Sequence[Answer]) -> list[Outcome]:
        """One outcome for each answer, in order."""
        return list(self._pool.map(self._outcome, answers))

    def close(self) -> None:
        """Let no more programs start."""
        self._pool.shutdown(cancel_futures=True)

    def _outcome(self, answer: Answer) -> Outcome:
        try:
            tests = tests_of(answer, self._options.tests_key)
        except CannotScore as error:
            return Unscorable(str(error))
        ran = run(program_in(answer.text), tests, self._options.timeout, self._options.memory_mb)
        failed = [error for error in ran.errors if error is not None]
        details = {"passed": len(tests) - len(failed), "tests": len(tests)}
        first = {"error": failed[0]} if failed else {}
        return Score(1 - len(failed) / len(tests), {**details, **first})


def create(options: Options, job: Job) -> CodeScorer:
    """Says aloud which measures this machine's kernel does not have."""
    warn_of_missing(options.memory_mb)
    return CodeScorer(options)


def program_in(text: str) -> str:
    """The last fenced block of Python, also one that was cut off; else the whole text."""
    block = last_block(text, _PYTHON)
    return text if block is None else block


def tests_of(answer: Answer, key: str | None) -> list[str]:
    """The row's tests; HumanEval's `check(candidate)` is called with its `entry_point`.

    Raises:
        CannotScore: there are none.
    """
    for name in (key,) if key else TESTS_KEYS:
        value = find(answer.row, name)
        tests = [value] if isinstance(value, str) else value
        if isinstance(tests, list) and tests and all(isinstance(test, str) for test in tests):
            entry = find(answer.row, "entry_point") or find(answer.row, "extra.entry_point")
            call = f"\ncheck({entry})" if isinstance(entry, str) and entry.isidentifier() else ""
            return [f"{test}{call}" if "def check(" in test else test for test in tests]
    raise CannotScore(
        f"no tests in the row (looked for {key or ', '.join(TESTS_KEYS)}); --tests_key names them"
    )
