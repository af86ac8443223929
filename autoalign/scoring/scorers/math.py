"""Is the answer's formula equal to the reference's? 1 or 0, by Math-Verify.

https://github.com/huggingface/Math-Verify

LaTeX and plain expressions are parsed and compared with SymPy: sets, intervals, matrices, equations.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from autoalign.curation.answers import Answer
from autoalign.errors import MissingDependency
from autoalign.scoring.scorer import CannotScore, Checked, Job, Score, reference


@dataclass(frozen=True)
class Options:
    """What may be set.

    Args:
        reference_key: where the row holds the right answer; None: usual places.
        timeout: seconds for parsing, and again for comparing; they need the main thread's alarm signal.
    """

    reference_key: str | None = None
    timeout: float = 5.0


def create(options: Options, job: Job) -> Checked:
    """An answer without a formula is wrong; a reference without one leaves the row unscored.

    Raises:
        MissingDependency: Math-Verify is not installed.
    """
    parse, verify = _library()
    seconds = _seconds(options.timeout)

    def check(answer: Answer) -> Score:
        text = str(reference(answer, options.reference_key))
        # A bare formula, such as \frac{1}{2}, counts as LaTeX only between dollar signs.
        expected = parse(text, parsing_timeout=seconds) or parse(f"${text}$", parsing_timeout=seconds)
        if not expected:
            raise CannotScore(f"the reference holds no formula: {text[:80]!r}")
        found = parse(answer.text, parsing_timeout=seconds)
        right = bool(found) and verify(expected, found, timeout_seconds=seconds)
        shown = str(found[-1]) if found else None
        return Score(float(right), {"found": shown, "expected": str(expected[-1])})

    return Checked(check)


def find_formula(text: str) -> str | None:
    """What a text comes to, as SymPy writes it; None where it holds no formula.

    Raises:
        MissingDependency: Math-Verify is not installed.
    """
    parse, _ = _library()
    found = parse(text, parsing_timeout=_seconds(Options.timeout))
    return str(found[0]) if found else None


def _library() -> tuple[Callable[..., Any], Callable[..., bool]]:
    try:
        from math_verify import parse, verify
    except ImportError as error:
        raise MissingDependency("the math scorer needs: pip install 'math-verify[antlr4_13_2]'") from error
    return parse, verify


def _seconds(timeout: float) -> int:
    """Math-Verify's timeout: 0, none, where the alarm signal can't be had."""
    return max(1, round(timeout)) if threading.current_thread() is threading.main_thread() else 0
