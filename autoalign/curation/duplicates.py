"""Rows that were there before: the same text, or nearly the same by MinHash (Broder 1997)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from autoalign.curation.answers import AnswerRow
from autoalign.curation.spool import Seen
from autoalign.errors import ConfigError, MissingDependency
from autoalign.records import Message

Part = Literal["prompt", "answer", "both"]
SEED = 42
_SHINGLE = 5  # characters: works without spaces, so for Chinese too


@dataclass(frozen=True)
class Settings:
    """How rows are compared.

    Attributes:
        method: `exact` (up to case and spaces) or `minhash`.
        part: what is compared.
        threshold: MinHash: the least Jaccard similarity of two rows' 5-character shingles.
        num_perm: MinHash: hash functions; the estimate is off by about 1 / sqrt(num_perm).
    """

    method: str = "exact"
    part: Part = "both"
    threshold: float = 0.8
    num_perm: int = 128

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ConfigError(f"--threshold: above 0 and at most 1, not {self.threshold:g}")


class Duplicates:
    """Tells of each row which earlier one it repeats; what it remembers is on disk.

    Raises:
        MissingDependency: rensa is not installed.
    """

    def __init__(self, settings: Settings, folder: Path | None = None) -> None:
        self._settings = settings
        self._seen = Seen(folder)
        self._bands = bands(settings.threshold, settings.num_perm)
        if settings.method == "minhash":
            try:
                from rensa import RMinHash
            except ImportError as error:
                raise MissingDependency("MinHash needs: pip install rensa") from error
            self._minhash: Any = RMinHash
            self._seen.database.execute("CREATE TABLE signatures (place TEXT PRIMARY KEY, digest BLOB)")

    def __enter__(self) -> Duplicates:
        return self

    def __exit__(self, *_: object) -> None:
        self._seen.__exit__(None, None, None)

    def repeats(self, row: AnswerRow) -> str | None:
        """The place (`FILE:LINE`) of an earlier row that says the same; None keeps the row in mind."""
        text = normal(text_of(row, self._settings.part))
        place = "{}:{}".format(*row.place)
        if self._settings.method == "exact":
            return self._seen.first(
                hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest(), place
            )
        return self._near(text, place)

    def _near(self, text: str, place: str) -> str | None:
        digest = self._digest(text)
        keys = list(self._keys(digest))
        query = "SELECT note FROM seen WHERE key = ?"
        database = self._seen.database
        for key in keys:
            for (note,) in database.execute(query, (key,)).fetchall():
                (packed,) = database.execute(
                    "SELECT digest FROM signatures WHERE place = ?", (note,)
                ).fetchone()
                if similarity(digest, unpacked(packed)) >= self._settings.threshold:
                    return str(note)
        for key in keys:
            self._seen.first(key, place)
        database.execute("INSERT OR IGNORE INTO signatures VALUES (?, ?)", (place, packed_digest(digest)))
        return None

    def _digest(self, text: str) -> list[int]:
        minhash = self._minhash(num_perm=self._settings.num_perm, seed=SEED)
        minhash.update(list(shingles(text)))
        return list(minhash.digest())

    def _keys(self, digest: list[int]) -> Iterator[bytes]:
        count, size = self._bands
        for band in range(count):
            part = packed_digest(digest[band * size : (band + 1) * size])
            yield hashlib.blake2b(bytes([band % 256, band // 256]) + part, digest_size=12).digest()


def text_of(row: AnswerRow, part: Part) -> str:
    """What is compared of a row: its prompt, its answers, or both."""
    prompt = _said(row.answers[0].prompt)
    answers = "\n\n".join(_said(each.conversation.messages[-each.size :]) for each in row.answers)
    return {"prompt": prompt, "answer": answers, "both": f"{prompt}\n\n{answers}"}[part]


def _said(messages: tuple[Message, ...]) -> str:
    return "\n\n".join(message.content for message in messages)


def normal(text: str) -> str:
    """Case and white space do not count."""
    return re.sub(r"\s+", " ", text).strip().casefold()


def shingles(text: str) -> set[str]:
    """Every run of 5 characters; a shorter text is its own."""
    return {text[start : start + _SHINGLE] for start in range(max(1, len(text) - _SHINGLE + 1))}


def similarity(left: list[int], right: list[int]) -> float:
    """Share of equal places of two signatures: the estimate of the Jaccard similarity."""
    return sum(a == b for a, b in zip(left, right, strict=True)) / len(left)


def bands(threshold: float, num_perm: int) -> tuple[int, int]:
    """Number of bands and their size, such that rows at the threshold share one with 95% chance or more.

    A pair of similarity s shares a band with chance 1 - (1 - s^size)^count (Mining of Massive Datasets, 3.4).
    """
    for size in range(num_perm, 1, -1):
        count = num_perm // size
        if 1 - (1 - threshold**size) ** count >= 0.95:
            return count, size
    return num_perm, 1


def packed_digest(digest: list[int]) -> bytes:
    """4 bytes a place."""
    return b"".join((value & 0xFFFFFFFF).to_bytes(4, "little") for value in digest)


def unpacked(packed: bytes) -> list[int]:
    """The inverse of `packed_digest`."""
    return [int.from_bytes(packed[start : start + 4], "little") for start in range(0, len(packed), 4)]
