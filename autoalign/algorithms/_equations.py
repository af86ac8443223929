"""Equations in a solution: `48 / 2 = 24`, `<<48/2=24>>`, `$5 x 3 = $15`, `\\frac{48}{2} = 24`."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

_NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?"
_OPERATORS = "-+*/x×÷"
_GAP = r"[^\S\n]*"  # an equation ends with its line
_EQUATION = re.compile(
    rf"(?P<left>[$(]*{_NUMBER}%?\)*(?:{_GAP}[{_OPERATORS}]{_GAP}[$(]*{_NUMBER}%?\)*)+)"
    rf"{_GAP}={_GAP}\$?{_GAP}(?P<right>-?{_NUMBER})"
    rf"(?![\d.]*\d)(?!{_GAP}[{_OPERATORS}]{_GAP}[$(]*\d)"  # 2 * 4 = 5 + 3 = 8: the first sign is no end
)
_LATEX = tuple(
    (re.compile(pattern), plain)
    for pattern, plain in (
        (r"\\(?:times|cdot)(?![a-z])|·", "*"),
        (r"\\div(?![a-z])", "/"),
        (r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}", r"(\1)/(\2)"),
        (r"\\(?:left|right)(?![a-z])|\\[()\[\],]", ""),
        (r"−", "-"),
        (r"\\([$%])", r"\1"),
    )
)
_TOKEN = re.compile(rf"{_NUMBER}%?|[-+*/()]")
_TOLERANCE = Fraction(1, 100)  # of the result: solutions round


class Equation(NamedTuple):
    """Both sides without spaces and currency signs."""

    left: str
    right: str

    def __str__(self) -> str:
        return f"{self.left}={self.right}"


def equations(text: str) -> list[Equation]:
    """The equations of numbers in `text`, in order; a calculator's `<<...>>` repeats one and counts once.

    The end of a longer expression (`12 apples - 3 + 5 = 14`) is none.
    """
    found: list[Equation] = []
    for pattern, plain in _LATEX:
        text = pattern.sub(plain, text)
    for match in _EQUATION.finditer(text):
        if _goes_on(text[text.rfind("\n", 0, match.start()) + 1 : match.start()]):
            continue
        one = Equation(_plain(match["left"]), _plain(match["right"]))
        if not found or found[-1] != one:
            found.append(one)
    return found


def holds(equation: Equation) -> bool:
    """Whether the left side comes to the right one, up to 1% for rounding; False for what is no sum."""
    try:
        value = _Sum(_TOKEN.findall(equation.left)).value()
    except (ZeroDivisionError, ValueError):
        return False
    right = Fraction(equation.right)
    return abs(value - right) <= _TOLERANCE * max(abs(right), Fraction(1))


def _goes_on(line: str) -> bool:
    """Whether an expression stands at the end of a line so far; its first mark with a space is a list's."""
    is_item = line.strip() in ("-", "*", "+") and line.endswith(" ")
    return not is_item and line.rstrip()[-1:] in tuple(_OPERATORS.replace("x", ""))


def _plain(side: str) -> str:
    return re.sub(r"[$,\s]", "", side).replace("x", "*").replace("×", "*").replace("÷", "/")


class _Sum:
    """Precedence climbing over +, -, *, / and brackets; exact."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens[::-1]

    def value(self) -> Fraction:
        """Of all of it; ValueError where it does not parse."""
        found = self._terms()
        if self._tokens:
            raise ValueError(self._tokens[-1])
        return found

    def _terms(self) -> Fraction:
        found = self._factors()
        while self._tokens and self._tokens[-1] in "+-":
            sign = self._tokens.pop()
            other = self._factors()
            found = found + other if sign == "+" else found - other
        return found

    def _factors(self) -> Fraction:
        found = self._one()
        while self._tokens and self._tokens[-1] in "*/":
            sign = self._tokens.pop()
            other = self._one()
            found = found * other if sign == "*" else found / other
        return found

    def _one(self) -> Fraction:
        if not self._tokens:
            raise ValueError("it ends too early")
        mark = self._tokens.pop()
        if mark == "(":
            found = self._terms()
            if not self._tokens or self._tokens.pop() != ")":
                raise ValueError("a bracket stays open")
            return found
        return Fraction(mark[:-1]) / 100 if mark.endswith("%") else Fraction(mark)
