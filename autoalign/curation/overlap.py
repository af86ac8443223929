"""Rows that share a run of words with an evaluation set (13 in GPT-3: arXiv:2005.14165, appendix C)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_]+")
_WORD_OR_SIGN = re.compile(rf"{_WORD.pattern}|[-+*/^=<>%!×÷−±√]")
_SHORTEST = 8  # words
_SHORTEST_PART = 3  # words of a message that stand for all of it; fewer may be an answer as well


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
        n: words; a text of fewer counts as one run, and one of fewer than 8 (or `n`) where it is a whole
            message: inside of one, too much would match it.
        most: a run that more texts than this have is nobody's.
    """

    def __init__(self, n: int = 13, most: int = 10) -> None:
        self._n, self._most = n, most
        self._owners: dict[bytes, dict[tuple[str, str], None]] = {}
        self._sizes: set[int] = set()
        self._whole_sizes: set[int] = set()

    def add(self, key: tuple[str, str], text: str, message: str | None = None) -> None:
        """Take in a text.

        Args:
            message: what `text` is the own part of. A short one is found by the whole of it too, and one of
                fewer than 3 words by that alone.
        """
        found = words(text)
        size = min(self._n, len(found))
        if size >= min(self._n, _SHORTEST):
            self._sizes.add(size)
            for gram in _grams(found, size):
                self._own(key, gram)
            return
        wholes = {message or text} if size < _SHORTEST_PART else {text, message or text}
        for whole in filter(str.strip, wholes):
            self._whole_sizes.add(len(words(whole)))
            self._own(key, _whole(whole))

    def owners(self, messages: Sequence[str]) -> list[tuple[str, str]]:
        """The keys of all texts that share a run with these messages, which runs may go across."""
        found = [words(message) for message in messages]
        joined = list(chain.from_iterable(found))
        wholes = (
            _whole(message)
            for message, own in zip(messages, found, strict=True)
            if len(own) in self._whole_sizes
        )
        grams = chain(*(_grams(joined, size) for size in self._sizes), wholes)
        known = (self._owners.get(gram, {}) for gram in grams)
        return list(dict.fromkeys(key for each in known if len(each) <= self._most for key in each))

    def _own(self, key: tuple[str, str], gram: bytes) -> None:
        known = self._owners.setdefault(gram, {})
        if len(known) <= self._most:
            known[key] = None


def _whole(text: str) -> bytes:
    """A message's hash, the same but for case, spaces and punctuation.

    Among figures signs count (2 + 2 is not 2 - 2), and where there are no words all characters.
    """
    folded = text.casefold()
    has_figures = any(letter.isdigit() for letter in folded)
    found = (_WORD_OR_SIGN if has_figures else _WORD).findall(folded) or folded.split()
    return _digest(f"whole {' '.join(found)}")


def _grams(found: list[str], size: int) -> Iterator[bytes]:
    for start in range(len(found) - size + 1 if size else 0):
        text = " ".join(found[start : start + size])
        yield _digest(f"{size} {text}")


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
