"""Verdicts in a judge's text, the last one written; None where there is none."""

from __future__ import annotations

import re
from typing import Literal

Preference = Literal["A", "B", "tie"]
Reaction = Literal["refused", "complied"]

_OUT_OF = r"(?:\s*/\s*(\d+(?:\.\d+)?))?"
_BOXED_GRADE = re.compile(rf"\[\[\s*(\d{{1,2}}(?:\.\d+)?){_OUT_OF}\s*\]\]")
_NAMED_GRADE = re.compile(
    r"(?:rating|score|grade|评分|得分|分数)\W{0,6}(?:is\s+|为|是)?\W{0,3}"
    rf"(\d{{1,2}}(?:\.\d+)?){_OUT_OF}(?![\d.]*\d)",
    re.IGNORECASE,
)
_POINTS = re.compile(
    r"score\W{0,4}(?:is\s+|of\s+)?\W{0,3}(\d+)(?:\s*/\s*(\d+))?(?![\d.]*\d)(?!\s?[-–]\s?\d)", re.IGNORECASE
)
_BOXED_CHOICE = re.compile(r"\[\[\s*(A|B|C|tie)\s*\]\]", re.IGNORECASE)
_BOXED_REACTION = re.compile(r"\[\[\s*(refused|complied)\s*\]\]", re.IGNORECASE)
_BOXED_STRENGTH = re.compile(r"\[\[\s*([AB])\s*(=|>{1,2}|<{1,2})\s*([AB])\s*\]\]")
# The letters as they are alone: "a" is an article.
_NAMED_CHOICE = re.compile(
    r"(?i:verdict|winner|better answer|结论)\W{0,6}(?i:is\s+|是)?\W{0,3}"
    r"(?i:assistant |answer )?((?i:(?:a\s+)?tie)|A|B)\b"
)
_LOWEST, _HIGHEST = 1.0, 10.0


def read_grade(text: str) -> float | None:
    """`[[7]]`, `[[7/10]]`, or `Rating: 7`; a grade outside 1 to 10, or out of another number, is none."""
    for pattern in (_BOXED_GRADE, _NAMED_GRADE):
        found = pattern.findall(text)
        if found:
            grade, out_of = found[-1]
            fits = _LOWEST <= float(grade) <= _HIGHEST and float(out_of or _HIGHEST) == _HIGHEST
            return float(grade) if fits else None
    return None


def read_points(text: str, highest: int = 5) -> int | None:
    """The last `Score: 4` or `Score: 4/5`, a whole number from 0 to `highest`; anything else is none."""
    found = _POINTS.findall(text)
    if not found:
        return None
    points, out_of = found[-1]
    fits = int(points) <= highest and (not out_of or int(out_of) == highest)
    return int(points) if fits else None


def read_preference(text: str) -> Preference | None:
    """`[[A]]`, `[[B]]`, `[[tie]]` (also `[[C]]`, which MT-Bench's judges write), or `Verdict: A`."""
    for pattern in (_BOXED_CHOICE, _NAMED_CHOICE):
        found = pattern.findall(text)
        if found:
            word = found[-1].upper()
            return "A" if word == "A" else "B" if word == "B" else "tie"
    return None


def read_strength(text: str) -> float | None:
    """How much better A is: `[[A>>B]]` 2, `[[A>B]]` 1, `[[A=B]]` 0, `[[B>A]]` -1, `[[B>>A]]` -2.

    A plain preference, as `[[A]]`, counts as a slight one.
    """
    found = [each for each in _BOXED_STRENGTH.findall(text) if each[0] != each[2]]
    if found:
        left, sign, _ = found[-1]
        ahead = (left == "A") == (">" in sign)
        return 0.0 if sign == "=" else float(len(sign) if ahead else -len(sign))
    preference = read_preference(text)
    return None if preference is None else {"A": 1.0, "B": -1.0, "tie": 0.0}[preference]


def read_reaction(text: str) -> Reaction | None:
    """`[[refused]]` or `[[complied]]`, the last one written."""
    found = _BOXED_REACTION.findall(text)
    return None if not found else "refused" if found[-1].lower() == "refused" else "complied"


def agreed(first: Preference, swapped: Preference) -> float:
    """What the left answer gets of two verdicts, the second with the answers swapped.

    1 where both prefer it, 0 where both prefer the other, 0.5 for ties and where they disagree: a judge that
    prefers a place prefers no answer (arXiv:2306.05685).
    """
    return {("A", "B"): 1.0, ("B", "A"): 0.0}.get((first, swapped), 0.5)
