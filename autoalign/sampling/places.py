"""Numbers and names by the million: offsets in a file of their own, and a compact set."""

from __future__ import annotations

import os
import tempfile
from array import array
from collections import deque
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

_WIDTH = 8  # bytes
_TAIL = 8192  # numbers; also of the piece that is held of what was written
_CHANGES = 4096  # numbers that wait to be written over others


def write_all(descriptor: int, data: bytes, offset: int | None = None) -> None:
    """`os.write`, or `os.pwrite` at an offset, repeated until everything is written."""
    view = memoryview(data)
    while view:
        if offset is None:
            view = view[os.write(descriptor, view) :]
        else:
            written = os.pwrite(descriptor, view, offset)
            view, offset = view[written:], offset + written


class Places:
    """A list of 64-bit numbers in a file without a name, which is gone with the process."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 (closed by close)
        self._tail = array("q")  # not written yet
        self._written = 0
        self._piece, self._piece_begins = array("q"), 0  # neighbours are asked for one after the other
        self._changes: dict[int, int] = {}

    def __len__(self) -> int:
        return self._written + len(self._tail)

    def __getitem__(self, index: int) -> int:
        if index >= self._written:
            return self._tail[index - self._written]
        if (changed := self._changes.get(index)) is not None:
            return changed
        if not self._piece_begins <= index < self._piece_begins + len(self._piece):
            self._piece_begins = index - index % _TAIL
            data = os.pread(self._file.fileno(), _WIDTH * _TAIL, _WIDTH * self._piece_begins)
            self._piece = array("q", data)
        return self._piece[index - self._piece_begins]

    def __setitem__(self, index: int, value: int) -> None:
        if index >= self._written:
            self._tail[index - self._written] = value
            return
        self._changes[index] = value
        if len(self._changes) >= _CHANGES:
            self._write_changes()

    def _write_changes(self) -> None:
        """Neighbours in one piece: a call for each number would cost more than the number."""
        rest = deque(sorted(self._changes.items()))
        while rest:
            begin, run = rest[0][0], array("q")
            while rest and rest[0][0] == begin + len(run):
                run.append(rest.popleft()[1])
            write_all(self._file.fileno(), run.tobytes(), _WIDTH * begin)
        self._changes = {}
        self._piece = array("q")  # may hold what was written over

    def __iter__(self) -> Iterator[int]:
        return (self[index] for index in range(len(self)))

    def append(self, value: int) -> None:
        """One number more."""
        self._tail.append(value)
        if len(self._tail) == _TAIL:
            write_all(self._file.fileno(), self._tail.tobytes())
            self._written += _TAIL
            self._tail = array("q")

    def close(self) -> None:
        """Forget them."""
        self._file.close()


class NameSet:
    """Names as 64-bit digests in a hash table: 13 to 27 bytes each, where a set of strings takes 100.

    Two of ten million names share a digest with a probability of 3e-6.
    """

    def __init__(self) -> None:
        self._slots = array("Q", bytes(_WIDTH * 1024))
        self._count = 0

    @property
    def size(self) -> int:
        """Bytes that the table takes."""
        return _WIDTH * len(self._slots)

    def add(self, name: str) -> bool:
        """Whether the name is new."""
        # 0 marks a free slot.
        digest = int.from_bytes(blake2b(name.encode("utf-8", "replace"), digest_size=_WIDTH).digest()) or 1
        slot = self._slot(self._slots, digest)
        if self._slots[slot]:
            return False
        self._slots[slot] = digest
        self._count += 1
        if self._count * 5 > len(self._slots) * 3:
            self._double()
        return True

    def _double(self) -> None:
        slots = array("Q", [0]) * (2 * len(self._slots))
        for digest in self._slots:
            if digest:
                slots[self._slot(slots, digest)] = digest
        self._slots = slots

    @staticmethod
    def _slot(slots: array[int], digest: int) -> int:
        """Where the digest is, or would be."""
        last = len(slots) - 1  # the length is a power of two
        slot = digest & last
        while slots[slot] and slots[slot] != digest:
            slot = (slot + 1) & last
        return slot
