"""Answers that earlier runs have finished, found by their keys.

A row's key is its last field, so that a file of gigabytes is read without parsing its rows.
"""

from __future__ import annotations

import json
import re
from array import array
from pathlib import Path
from typing import IO, Any, NamedTuple

from autoalign.sampling.keys import SIZE, AnswerKeys

_KEY = re.compile(rb'"key": ?"([0-9a-f]{32})"\s*\}\s*$')
_END = 64  # bytes of a line that hold its key


class Unasked(NamedTuple):
    """Rows of earlier runs that this job does not ask for; `other_job`: made with another model or engine."""

    rows: int
    other_job: int


class Ledger:
    """Keys and places of finished rows: read them all, `close`, then `find`.

    Memory: 24 bytes a row, until the ledger is let go.
    """

    def __init__(self) -> None:
        self._keys = bytearray()
        self._places = array("q")
        self._unkeyed = 0
        self._found_at: Any = ()

    def __len__(self) -> int:
        """Rows that `find` knows."""
        return len(self._found_at)

    def read(self, file: IO[bytes], tag: int) -> int:
        """Note the rows of a file; one that is read first goes before the same row of another.

        Args:
            tag: 0 or 1, which file; row `offset` of it has the place `2 * offset + tag`.

        Returns:
            where its last whole line ends: a killed run may leave a torn one.
        """
        file.seek(0)
        offset = 0
        for line in file:
            if not line.endswith(b"\n"):
                break
            key = _key_of(line)
            if key is None:
                self._unkeyed += 1
            else:
                self._keys += key
                self._places.append(2 * offset + tag)
            offset += len(line)
        return offset

    def close(self) -> None:
        """Sort what was read."""
        import numpy as np

        keys = np.frombuffer(bytes(self._keys), dtype=f"S{SIZE}")
        order = np.argsort(keys, kind="stable")
        # A fixed width hides trailing zero bytes, on both sides of a comparison alike.
        keys = keys[order]
        first = np.ones(len(keys), dtype=bool)
        first[1:] = keys[1:] != keys[:-1]
        self._sorted = keys[first]
        self._found_at = np.frombuffer(self._places, dtype=np.int64)[order][first]
        self._asked = np.zeros(len(self._sorted), dtype=bool)
        self._keys, self._places = bytearray(), array("q")

    def find(self, key: bytes) -> int | None:
        """The place of a row; None where there is none."""
        if not len(self._sorted):
            return None
        import numpy as np

        number = int(np.searchsorted(self._sorted, np.bytes_(key)))
        if number == len(self._sorted) or self._sorted[number] != key.rstrip(b"\0"):
            return None
        self._asked[number] = True
        return int(self._found_at[number])

    def unasked(self, keys: AnswerKeys) -> Unasked:
        """What nobody asked for; rows without a key are of another job."""
        left = [bytes(key).ljust(SIZE, b"\0") for key in self._sorted[~self._asked]]
        other = sum(not keys.is_of_job(key) for key in left)
        return Unasked(len(left) + self._unkeyed, other + self._unkeyed)


def refusal(path: Path, unasked: Unasked) -> str:
    """Why a job does not start on an output with such rows, and what to do."""
    reason = (
        "made with another model, engine or other options"
        if unasked.other_job
        else "of other prompts or parameters, or beyond --n or --limit"
    )
    return (
        f"{path} holds {unasked.rows} answers that this job does not ask for ({reason}): give another "
        "--output_file to keep them, --overwrite to drop them, or --fresh to make every answer again"
    )


def _key_of(line: bytes) -> bytes | None:
    found = _KEY.search(line, max(0, len(line) - _END))
    if found:
        return bytes.fromhex(found[1].decode())
    try:
        key = bytes.fromhex(json.loads(line)["key"])
    except (ValueError, KeyError, TypeError):
        return None
    return key if len(key) == SIZE else None
