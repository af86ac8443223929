"""Rows that wait on disk: in SQLite, with a cache of fixed size, so that memory does not grow with them."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Self

_CACHE_KIB = 64 << 10


class Spool:
    """A database in a folder of its own, gone at the end.

    Args:
        folder: where the folder is made; None: the system's place for temporary files.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix=".autoalign-", dir=folder)
        self.database = sqlite3.connect(Path(self._folder.name) / "rows.sqlite", isolation_level=None)
        for setting in ("journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE"):
            self.database.execute(f"PRAGMA {setting}")
        self.database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self.database.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.database.close()
        self._folder.cleanup()


class Groups(Spool):
    """Rows put together by a key; the groups come in the order in which their keys first came."""

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__(folder)
        self._count = 0
        self.database.execute("CREATE TABLE keys (key TEXT PRIMARY KEY, first INTEGER) WITHOUT ROWID")
        self.database.execute(
            "CREATE TABLE rows (first INTEGER, number INTEGER, row BLOB, PRIMARY KEY (first, number)) "
            "WITHOUT ROWID"
        )

    def add(self, key: str, row: bytes) -> None:
        """Put a row behind those of the same key."""
        self.database.execute("INSERT OR IGNORE INTO keys VALUES (?, ?)", (key, self._count))
        (first,) = self.database.execute("SELECT first FROM keys WHERE key = ?", (key,)).fetchone()
        self.database.execute("INSERT INTO rows VALUES (?, ?, ?)", (first, self._count, row))
        self._count += 1

    def __len__(self) -> int:
        """How many rows there are."""
        return self._count

    def __iter__(self) -> Iterator[list[bytes]]:
        """The rows of each group, in the order in which they came."""
        found = self.database.execute("SELECT first, row FROM rows ORDER BY first, number")
        for _, group in groupby(found, key=lambda each: each[0]):
            yield [row for _, row in group]


class Seen(Spool):
    """Which keys there were."""

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__(folder)
        self.database.execute("CREATE TABLE seen (key BLOB PRIMARY KEY, note TEXT) WITHOUT ROWID")

    def first(self, key: bytes, note: str = "") -> str | None:
        """None for a key that is new, which is then kept with its note; else the note of the first one."""
        added = self.database.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (key, note)).rowcount
        if added:
            return None
        (found,) = self.database.execute("SELECT note FROM seen WHERE key = ?", (key,)).fetchone()
        return str(found)
