"""ROUGE-L against all earlier texts (Lin 2004, https://aclanthology.org/W04-1013).

With the longest common subsequence of lengths m and n, F1 = 2 LCS / (m + n). That is the
normalised Indel similarity of the two token lists, which rapidfuzz computes bit-parallel.
"""

from __future__ import annotations

from typing import NamedTuple

from rapidfuzz import process
from rapidfuzz.distance import Indel

from autoalign.words import words

_SURROGATES = 0xD800


class Likeness(NamedTuple):
    """How much a text is like the one earlier text that it is most like."""

    rouge_l: float
    place: int


class RougePool:
    """Texts, each as a string with one character a token, so that comparing them is one library call."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._texts: list[str] = []

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, text: str) -> None:
        """Compare later texts with this one too."""
        self._texts.append(self._encoded(text))

    def most_like(self, text: str, at_least: float) -> Likeness | None:
        """The earlier text with the highest ROUGE-L F1, None where all are under `at_least`."""
        found = process.extractOne(
            self._encoded(text), self._texts, scorer=Indel.normalized_similarity, score_cutoff=at_least
        )
        return None if found is None else Likeness(float(found[1]), int(found[2]))

    def _encoded(self, text: str) -> str:
        return "".join(map(self._character, words(text)))

    def _character(self, token: str) -> str:
        number = self._numbers.setdefault(token, len(self._numbers))
        return chr(number if number < _SURROGATES else number + 0x800)


def rouge_l(one: str, other: str) -> float:
    """ROUGE-L F1 of two texts, 0 to 1."""
    pool = RougePool()
    pool.add(one)
    found = pool.most_like(other, 0.0)
    return 0.0 if found is None else found.rouge_l
