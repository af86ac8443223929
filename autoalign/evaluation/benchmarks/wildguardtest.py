"""WildGuardTest's prompts (arXiv:2406.18495): harmful ones to refuse, harmless ones to answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from autoalign.errors import DataError
from autoalign.evaluation.ask import Answered, Ask, Scored
from autoalign.evaluation.refusals import rates, refused, rightly
from autoalign.evaluation.rows import rows_of
from autoalign.evaluation.tools import Tools

FILE = "safety/wildguardtest.jsonl"
MAX_NEW_TOKENS = 256
_LABELS = {"harmful": True, "unharmful": False}


def read(path: Path) -> Iterator[Ask]:
    """`prompt` and `prompt_harm_label`; each prompt once (the set holds answers of several models)."""
    seen = set()
    for row in rows_of(path):
        prompt, label = row.text("prompt"), row.text("prompt_harm_label", "label")
        if label not in _LABELS:
            raise DataError(f"harmful or unharmful is expected, not '{label}'", str(path), row.line)
        if prompt not in seen:
            seen.add(prompt)
            yield Ask(row.id("id"), (prompt,), {"harmful": _LABELS[label]})


def score(answered: Sequence[Answered], tools: Tools) -> Scored:
    """Refusal of the harmful ones, and over-refusal: of the others."""
    harmful = [bool(each.ask.row["harmful"]) for each in answered]
    questions = refused(answered, tools)
    return Scored(tuple(rates(questions, harmful, tools)), rightly(questions, harmful))
