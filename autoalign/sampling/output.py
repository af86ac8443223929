"""Answers on disk: kept as they come, written in the input's order, renamed when whole."""

from __future__ import annotations

import fcntl
import glob
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from autoalign.atomic_files import replacing
from autoalign.errors import ConfigError
from autoalign.sampling.keys import AnswerKeys
from autoalign.sampling.ledger import Ledger, Unasked
from autoalign.sampling.places import Places, write_all
from autoalign.sampling.rows import dumps

ERRORS_NAME = "errors.jsonl"
_MISSING, _FAILED = -1, -2


class StoredLine(NamedTuple):
    """A finished row, the number of its answer, and whether an earlier run made it."""

    number: int
    line: bytes
    reused: bool


class AnswerStore:
    """Finished rows, in the order they finish: the ledger that a rerun goes on with.

    Rows of earlier runs are found again by their keys, here and in the finished output; rows are only ever
    added behind whole ones. Memory does not grow with their number.

    Args:
        path: the file; readable JSONL at any time.
        finished: the output of an earlier run, if any.
        fresh: forget what both hold.

    Raises:
        ConfigError: another process has it open.
    """

    def __init__(self, path: Path, finished: Path | None = None, fresh: bool = False) -> None:
        self.path = path
        self.done = self.failed = self.reused = 0
        try:
            self._file = path.open("a+b", buffering=0)
        except OSError as error:
            raise ConfigError(f"{path}: can't be written: {error.strerror}") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise ConfigError(f"{path}: another job is at work on this output") from None
        self._places = Places(path.parent)
        self._readers = [path.open("rb")]
        if not fresh and finished is not None and finished.exists():
            self._readers.append(finished.open("rb"))
        self._ledger = Ledger()
        self._end = 0 if fresh else self._ledger.read(self._readers[0], 0)
        self._file.truncate(self._end)
        if len(self._readers) > 1:
            self._ledger.read(self._readers[1], 1)
        self._ledger.close()
        self._resumed_at = self._written = self._end
        self._unwritten: list[bytes] = []

    @property
    def holds_earlier(self) -> bool:
        """Whether earlier runs left rows; where not, `expect` needs no key."""
        return len(self._ledger) > 0

    def expect(self, key: bytes | None) -> None:
        """One answer more, which an earlier run may have made."""
        place = None if key is None else self._ledger.find(key)
        self._places.append(_MISSING if place is None else place)
        self.reused += place is not None
        self.done += place is not None

    def give_up(self, count: int) -> None:
        """`count` answers more, which can't be had."""
        for _ in range(count):
            self._places.append(_FAILED)
        self.failed += count

    def unasked(self, keys: AnswerKeys) -> Unasked:
        """Rows of earlier runs that nobody expects; after this, no more answers may be expected."""
        unasked, self._ledger = self._ledger.unasked(keys), Ledger()
        return unasked

    def __len__(self) -> int:
        return len(self._places)

    def add(self, number: int, row: dict[str, Any]) -> bool:
        """Keep answer `number`; False when it is there already (a repeated Ray task)."""
        if self._places[number] != _MISSING:
            return False
        line = dumps(row)
        self._unwritten.append(line)
        self._places[number] = 2 * self._end
        self._end += len(line)
        self.done += 1
        return True

    def fail(self, number: int) -> bool:
        """Mark answer `number` as failed; False when it was settled before."""
        if self._places[number] != _MISSING:
            return False
        self._places[number] = _FAILED
        self.failed += 1
        return True

    def is_missing(self, number: int) -> bool:
        """Neither there nor failed."""
        return self._places[number] == _MISSING

    def is_failed(self, number: int) -> bool:
        """It can't be had."""
        return self._places[number] == _FAILED

    @property
    def missing(self) -> int:
        """How many are neither there nor failed."""
        return len(self._places) - self.done - self.failed

    def in_order(self) -> Iterator[StoredLine]:
        """The lines in the input's order."""
        self.flush()
        for number, place in enumerate(self._places):
            if place >= 0:
                yield StoredLine(number, self._read(place), place % 2 == 1 or place < 2 * self._resumed_at)

    def line(self, number: int) -> bytes | None:
        """Answer `number`; None where it is not there."""
        place = self._places[number]
        self.flush()
        return None if place < 0 else self._read(place)

    def flush(self) -> None:
        """Hand what came so far to the operating system, which outlives a killed job.

        Raises:
            OSError: it can't be written, and no part of it is left; what was written before stays.
        """
        data, lost, self._unwritten = b"".join(self._unwritten), len(self._unwritten), []
        try:
            write_all(self._file.fileno(), data)
        except OSError:
            self.done -= lost
            self._file.truncate(self._written)
            raise
        self._written += len(data)

    def close(self, keep: bool = False) -> None:
        """Close the file, and remove it unless it is to be kept and holds anything."""
        if not (keep and self._written):
            self.path.unlink(missing_ok=True)
        for file in (*self._readers, self._file):
            file.close()
        self._places.close()

    def _read(self, place: int) -> bytes:
        file = self._readers[place % 2]
        file.seek(place // 2)
        return file.readline()


def write_answers(path: Path, lines: Iterable[bytes], output_format: str, one_each: bool) -> None:
    """The final file, written beside its place and renamed.

    Args:
        path: where it goes.
        lines: `Sample.to_dict()` as JSON lines, in order.
        output_format: `jsonl`, or `sharegpt` for the upstream's JSON array.
        one_each: one answer a prompt, so that sharegpt rows keep the prompt's own id.
    """
    with replacing(path) as temporary, temporary.open("wb") as file:
        chunks = lines if output_format == "jsonl" else _sharegpt_array(lines, one_each)
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())


def write_errors(folder: Path, output: str, rows: Iterable[bytes]) -> Path | None:
    """Put `rows` into the folder's `errors.jsonl`; those of an earlier run of `output` go.

    Rows carry `"output": NAME`, because several outputs share a folder. Returns
    the file, or None when it holds nothing of this run.
    """
    path, mine = folder / ERRORS_NAME, 0
    temporary = path.with_name(f".{path.name}.tmp")
    with _locked(folder), temporary.open("wb") as file:
        if path.exists():
            with path.open("rb") as before:
                file.writelines(line for line in before if not _is_of(line, output))
        for row in rows:
            file.write(row)
            mine += 1
        size = file.tell()
        file.flush()
        os.fsync(file.fileno())
        if size:
            temporary.replace(path)
        else:
            temporary.unlink()
            path.unlink(missing_ok=True)
    return path if mine else None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Jobs whose outputs share the folder wait for each other."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> list[Path]:
    """Make the folder of an output; returns what was not there before, the innermost first.

    Raises:
        ConfigError: it can't be made.
    """
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"output folder {folder}: {error.strerror}; give another --output_dir") from None
    return new


def remove_leftovers(path: Path) -> None:
    """What a killed job left half written beside the output `path`; nobody else may be at work on it."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        leftover.unlink(missing_ok=True)


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raises ConfigError when `path` is there and `overwrite` is off, or is a folder."""
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; --output_file must name a file")
    if path.exists() and not overwrite:
        raise ConfigError(f"{path}: exists already; give --overwrite to replace it, or another --output_file")


def _is_of(line: bytes, output: str) -> bool:
    try:
        row = json.loads(line)
    except ValueError:
        return False
    return isinstance(row, dict) and row.get("output") == output


_SPEAKERS = {"user": "human", "assistant": "gpt", "system": "system", "tool": "tool"}


def _sharegpt_array(lines: Iterable[bytes], one_each: bool) -> Iterator[bytes]:
    yield b"["
    for number, line in enumerate(lines):
        row = json.loads(line)
        turns = [{"from": _SPEAKERS[m["role"]], "value": m["content"]} for m in row["messages"]]
        name = row["prompt_id"] if one_each else row["id"]
        entry = {"id": name, "conversations": turns, "source": row["source"]}
        text = json.dumps(entry, ensure_ascii=False, indent=4)
        yield (",\n" if number else "\n").encode() + text.encode()
    yield b"\n]\n"
