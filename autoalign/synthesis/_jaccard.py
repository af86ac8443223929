"""Which earlier text shares most of its words: an exact join on word sets.

Two sets with Jaccard similarity t or more share at least one of the first `n - ceil(t n) + 1` words
of each, in any one order of all words (Chaudhuri 2006, "A Primitive Operator for Similarity Joins"),
so only texts that share one of those are compared.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict

from autoalign.words import words


class JaccardPool:
    """Texts that are less than `threshold` (0 to 1) alike."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._texts: list[str] = []
        self._words: list[frozenset[str]] = []
        self._places: defaultdict[str, list[int]] = defaultdict(list)

    def add(self, text: str) -> str | None:
        """Keep `text`, or give back the earlier one that it is too much like."""
        found = frozenset(words(text))
        # By hash, which spreads common words over the order.
        ordered = sorted(found, key=lambda word: hashlib.blake2b(word.encode(), digest_size=8).digest())
        prefix = ordered[: len(ordered) - math.ceil(self._threshold * len(ordered)) + 1]
        for place in dict.fromkeys(place for word in prefix for place in self._places[word]):
            if len(found & self._words[place]) >= self._threshold * len(found | self._words[place]):
                return self._texts[place]
        for word in prefix:
            self._places[word].append(len(self._texts))
        self._texts.append(text)
        self._words.append(found)
        return None
