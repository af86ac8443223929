"""Is the answer's letter the reference's? 1 or 0, for multiple choice.

The letter is looked for behind "answer is" and the like, then in `\\boxed{}`, then at the answer's start, and
else is its last letter that stands alone in capitals or in brackets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from autoalign.curation.answers import Answer
from autoalign.scoring.scorer import CannotScore, Checked, Job, Score, reference

_LETTER = r"\(?\**([A-J])\b\**\)?"
_PLACES = (
    re.compile(
        rf"(?i:answer|choice|option|答案|选项?)\s*(?i:is|are|:|：|是|为)+\s*(?i:option\s*)?[\"'`*$]*{_LETTER}"
    ),
    re.compile(r"\\boxed\{\s*(?:\\text\{)?\s*\(?([A-J])\)?\s*\}"),
    re.compile(rf"\A\s*[\"'`*]*{_LETTER}(?=\s*(?:[.):,\n]|\Z|[\"'`*]))"),
    re.compile(r"\(([A-J])\)|(?<![A-Za-z0-9'])((?:A(?!\s+[a-z])|[B-HJ]))(?![A-Za-z0-9'])"),
)


@dataclass(frozen=True)
class Options:
    """What may be set.

    Args:
        reference_key: where the row holds the right letter; None: usual places.
    """

    reference_key: str | None = None


def create(options: Options, job: Job) -> Checked:
    """An answer without a letter is wrong; a reference that is none leaves the row unscored."""

    def check(answer: Answer) -> Score:
        expected = str(reference(answer, options.reference_key)).strip().strip("().").upper()
        if not re.fullmatch("[A-J]", expected):
            raise CannotScore(f"the reference is no letter from A to J: {expected[:40]!r}")
        found = find_letter(answer.text)
        return Score(float(found == expected), {"found": found, "expected": expected})

    return Checked(check)


def find_letter(text: str) -> str | None:
    """The letter that a text settles on: of each place to look, the last that is there."""
    for place in _PLACES:
        if found := place.findall(text):
            last = found[-1]
            return str(last if isinstance(last, str) else next(filter(None, last)))
    return None
