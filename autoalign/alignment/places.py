"""Whether a judge of training answers prefers a place: its verdicts on comparisons asked in both orders."""

from __future__ import annotations

import re
from collections.abc import Sequence

from autoalign.algorithms import Ask, Reply
from autoalign.judging.forms import PREFERENCE, reason
from autoalign.judging.refusals import refuses

# How the keys of such asks end (`_judge.compare`, `cai`, `meta_rewarding`); a further try adds `#2`.
_BOTH_ORDERS = re.compile(r"/(?:ab|ba|meta-\d+-\d+)(?:#\d+)?$")
_OPENING = 80  # characters, as `ask_judge` looks for a refusal


class Places:
    """A tally of verdicts as the replies come in."""

    def __init__(self) -> None:
        self._first = self._sided = 0

    def see(self, asks: Sequence[Ask], replies: Sequence[Reply]) -> None:
        """Count what can be read as a preference; a comparison is asked again only where it can't be."""
        for ask, reply in zip(asks, replies, strict=True):
            if reply.problem is None and _BOTH_ORDERS.search(ask.key):
                said = _preference(ask, reply.text)
                self._sided += said in ("A", "B")
                self._first += said == "A"

    @property
    def first(self) -> float | None:
        """Of the verdicts that are no tie, the share for what stands first; None where there are none."""
        return round(self._first / self._sided, 4) if self._sided else None


def _preference(ask: Ask, text: str) -> str | None:
    guided = ask.json_schema is not None
    if refuses(reason(text) if guided else text, _OPENING):
        return None
    return PREFERENCE.read_guided(text) if guided else PREFERENCE.read(text)
