"""Rows that share a run of words with an evaluation set (13 in GPT-3: arXiv:2005.14165, appendix C)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_]+")
_SHORTEST = 8  # words


def words(text: str) -> list[str]:
    """Lower-case words without punctuation; each Chinese, Japanese or Korean character is one."""
    return _WORD.findall(text.casefold())


class Overlap:
    """The word n-grams of evaluation texts, as hashes of 8 bytes.

    Args:
        texts: place and text of each evaluation row; one of fewer than `n` words counts as a whole, and
            one of fewer than 8 (or `n`) not at all: too much would match it.
        n: words.
    """

    def __init__(self, texts: Iterable[tuple[str, str]], n: int = 13) -> None:
        self._n = n
        self._places: dict[bytes, str] = {}
        self._sizes: set[int] = set()
        for place, text in texts:
            found = words(text)
            size = min(n, len(found))
            if size < min(n, _SHORTEST):
                continue
            self._sizes.add(size)
            for gram in _grams(found, size):
                self._places.setdefault(gram, place)

    def match(self, text: str) -> str | None:
        """The place of an evaluation row that `text` shares a run of words with."""
        found = words(text)
        for size in sorted(self._sizes, reverse=True):
            for gram in _grams(found, size):
                if gram in self._places:
                    return self._places[gram]
        return None


class RunsOfWords:
    """The word n-grams of many texts, and which of them each belongs to.

    Args:
        n: words; shorter texts count as in `Overlap`.
        most: a run that more texts than this have is nobody's.
    """

    def __init__(self, n: int = 13, most: int = 10) -> None:
        self._n, self._most = n, most
        self._owners: dict[bytes, dict[tuple[str, str], None]] = {}
        self._sizes: set[int] = set()

    def add(self, key: tuple[str, str], text: str) -> None:
        """Take in a text."""
        found = words(text)
        size = min(self._n, len(found))
        if size < min(self._n, _SHORTEST):
            return
        self._sizes.add(size)
        for gram in _grams(found, size):
            known = self._owners.setdefault(gram, {})
            if len(known) <= self._most:
                known[key] = None

    def owners(self, text: str) -> list[tuple[str, str]]:
        """The keys of all texts that share a run with this one."""
        found = words(text)
        grams = (gram for size in self._sizes for gram in _grams(found, size))
        known = (self._owners.get(gram, {}) for gram in grams)
        return list(dict.fromkeys(key for each in known if len(each) <= self._most for key in each))


def _grams(found: list[str], size: int) -> Iterator[bytes]:
    for start in range(len(found) - size + 1 if size else 0):
        text = " ".join(found[start : start + size])
        yield hashlib.blake2b(f"{size} {text}".encode(), digest_size=8).digest()
