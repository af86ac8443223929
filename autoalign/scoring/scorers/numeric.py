"""Is the answer's number the reference's? 1 or 0.

The number is looked for in the last `\\boxed{}`, behind the last `####` (GSM8K, arXiv:2110.14168), and else
is the last one of the text, in the answer and in the reference alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from autoalign.curation.answers import Answer
from autoalign.errors import ConfigError
from autoalign.scoring.numbers import Number, equal, find_number
from autoalign.scoring.scorer import CannotScore, Checked, Job, Score, reference

EXTRACT = ("auto", "boxed", "hashes", "last")


@dataclass(frozen=True)
class Options:
    """What may be set.

    Args:
        reference_key: where the row holds the right answer, as `extra.answer`; None: usual places.
        tolerance: relative to the reference; absolute for a reference below 1.
        extract: where the answer's number is looked for.
    """

    reference_key: str | None = None
    tolerance: float = 1e-6
    extract: str = "auto"

    def __post_init__(self) -> None:
        if self.extract not in EXTRACT:
            raise ConfigError(f"'extract' is one of {', '.join(EXTRACT)}, not '{self.extract}'")


def create(options: Options, job: Job) -> Checked:
    """A number that is not there is wrong; a reference without one leaves the row unscored."""

    def check(answer: Answer) -> Score:
        expected = expected_number(reference(answer, options.reference_key))
        found = find_number(answer.text, options.extract)
        right = found is not None and equal(found, expected, options.tolerance)
        shown = None if found is None else str(found)
        return Score(float(right), {"found": shown, "expected": str(expected)})

    return Checked(check)


def expected_number(value: Any) -> Number:
    """The reference's number.

    Raises:
        CannotScore: it holds none.
    """
    number = find_number(str(value)) if not isinstance(value, bool) else None
    if number is None:
        raise CannotScore(f"the reference holds no number: {str(value)[:80]!r}")
    return number
