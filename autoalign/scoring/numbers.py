"""Numbers in answers: `#### 1,234`, `\\boxed{\\frac{1}{2}}`, `about 50%`, `$3.50 a piece`."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from typing import NamedTuple

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d|,\d)|\d+)"
_DECIMAL = rf"(?:{_DIGITS}(?:\.\d+)?|\.\d+)"
_NUMBER = re.compile(
    rf"""
    (?P<sign>(?<![\w.)\]}}])[-+]\s?)?             # `3-5` holds 5, not -5
    (?:[$€£¥₹]\s?)?
    (?:
        (?:(?P<whole>\d+)\s*)?\\frac\s*{{\s*(?P<latex_top>-?{_DECIMAL})\s*}}\s*{{\s*(?P<latex_bottom>{_DECIMAL})\s*}}
      | (?:(?P<mixed>\d+)\s+)?(?<![\w.])(?P<top>{_DECIMAL})\s?/\s?(?P<bottom>{_DECIMAL})(?![/\d])
      | (?P<plain>{_DECIMAL})(?:\s*(?:\*|x|×|\\times|\\cdot)\s*10\s*\^\s*{{?\s*(?P<power>[-+]?\d{{1,3}})\s*}}?
                              |[eE](?P<exponent>[-+]?\d{{1,3}})(?![\w]))?
    )
    (?P<percent>\s?(?:%|percent\b))?
    """,
    re.VERBOSE,
)
_LATEX_NOISE = re.compile(r"\\(?:text|mathrm|mathbf|textbf)\s*\{([^{}]*)\}|\\[!,;: ]|\\(?=[$%])|\{,\}(?=\d)")
_LONGEST = 1000  # characters; Python refuses to read integers of more than 4,300 digits
_HASHES = re.compile(r"####[ \t]*([^\n]+)")
# No heading, such as `#### Step 3` or `#### 3. Add up`.
_RESULT = re.compile(r"(?i:\W*(?:the )?(?:final )?answer\b(?: is)?)?\W*\.?\d(?!\d*[.)]\s+[^\W\d])")


class Number(NamedTuple):
    """An exact value, and whether it was written with a percent sign."""

    value: Fraction
    percent: bool = False

    def __str__(self) -> str:
        shown = str(self.value) if self.value.denominator < 10_000 else f"{float(self.value):.10g}"
        return f"{shown}%" if self.percent else shown


def find_number(text: str, extract: str = "auto") -> Number | None:
    """The number that a text ends in.

    Args:
        extract: `boxed` looks into the last `\\boxed{}`, `hashes` behind the last `####`, `last` takes
            the text's last number; `auto` tries the three in this order, and takes no heading for a result.
    """
    hashes = _behind_hashes(text)
    if extract == "auto" and hashes is not None and not _RESULT.match(hashes):
        hashes = None
    places = {"boxed": boxed(text), "hashes": hashes, "last": text}
    parts = [part for name, part in places.items() if part is not None and extract in ("auto", name)]
    return next((found for part in parts if (found := last_number(part)) is not None), None)


def last_number(text: str) -> Number | None:
    """The last number written in `text`; units and currency signs around it are left out."""
    found = None
    for match in _NUMBER.finditer(_plain(text)):
        found = _number(match) or found
    return found


def equal(found: Number, expected: Number, tolerance: float) -> bool:
    """Whether both are the same up to `tolerance`, relative to `expected` (absolute where that is below 1).

    Where one alone has a percent sign, `50%` is the same as both `50` and `0.5`.
    """
    pairs = [(found.value, expected.value)]
    if found.percent != expected.percent:
        pairs.append(
            (found.value / 100, expected.value) if found.percent else (found.value, expected.value / 100)
        )
    limit = Fraction(tolerance)
    return any(abs(left - right) <= limit * max(abs(right), Fraction(1)) for left, right in pairs)


def boxed(text: str) -> str | None:
    """What the last whole `\\boxed{...}` of a text holds; braces inside may nest."""
    starts = [match.end() for match in re.finditer(r"\\f?boxed\s*\{", text)]
    for start in reversed(starts):
        depth = 1
        for index in range(start, len(text)):
            depth += {"{": 1, "}": -1}.get(text[index], 0)
            if not depth:
                return text[start:index]
    return None


def _behind_hashes(text: str) -> str | None:
    lines = _HASHES.findall(text)
    return lines[-1] if lines else None


def _plain(text: str) -> str:
    """Full-width forms as ASCII, one kind of minus, no LaTeX spacing."""
    text = unicodedata.normalize("NFKC", text).replace("−", "-").replace("–", "-").replace("⁄", "/")
    text = re.sub(r"\\[dt]frac", r"\\frac", text)
    return _LATEX_NOISE.sub(lambda match: match[1] or "", text)


def _number(match: re.Match[str]) -> Number | None:
    if len(match[0]) > _LONGEST:
        return None
    value = _value({name: part.replace(",", "") for name, part in match.groupdict().items() if part})
    if value is None:
        return None
    negative = (match["sign"] or "").startswith("-")
    return Number(-value if negative else value, bool(match["percent"]))


def _value(parts: dict[str, str]) -> Fraction | None:
    """None for a fraction over 0."""
    if "plain" in parts:
        power = int(parts.get("power") or parts.get("exponent") or 0)
        return Fraction(parts["plain"]) * Fraction(10) ** power
    top = Fraction(parts.get("latex_top") or parts["top"])
    bottom = Fraction(parts.get("latex_bottom") or parts["bottom"])
    whole = int(parts.get("whole") or parts.get("mixed") or 0)
    return whole + top / bottom if bottom else None
