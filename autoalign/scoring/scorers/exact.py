"""Is the answer the reference's text? 1 or 0; case, outer blanks and a closing full stop aside."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Any

from autoalign.curation.answers import Answer
from autoalign.scoring.scorer import Checked, Job, Score, reference


@dataclass(frozen=True)
class Options:
    """What may be set.

    Args:
        reference_key: where the row holds the right answer, or a list of them; None: usual places.
    """

    reference_key: str | None = None


def create(options: Options, job: Job) -> Checked:
    """Any one of several references will do."""

    def check(answer: Answer) -> Score:
        given: Any = reference(answer, options.reference_key)
        expected = given if isinstance(given, list) else [given]
        found = plain(answer.text)
        return Score(float(any(found == plain(str(each)) for each in expected)), {"found": found})

    return Checked(check)


def plain(text: str) -> str:
    """What is compared."""
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return folded.strip("\"'`* ").removesuffix(".").removesuffix("。")
