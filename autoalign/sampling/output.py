"""Answers on disk: kept as they come, written in the input's order, renamed when whole."""

from __future__ import annotations

import fcntl
import json
import os
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from autoalign.errors import ConfigError

ERRORS_NAME = "errors.jsonl"
_MISSING, _FAILED = -1, -2


class AnswerStore:
    """Lines in the order they finish; 8 bytes of memory for each says where it lies.

    Args:
        path: the file; readable JSONL at any time. What an earlier job left there is replaced.

    Raises:
        ConfigError: another process has it open.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done = 0
        self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise ConfigError(f"{path}: another job is at work on this output") from None
        self._file.truncate(0)
        self._end = 0
        self._places = array("q")

    def grow(self, count: int, failed: bool = False) -> None:
        """Expect `count` answers more, or note that they can't be had."""
        self._places.extend([_FAILED if failed else _MISSING] * count)

    def __len__(self) -> int:
        return len(self._places)

    def add(self, number: int, row: dict[str, Any]) -> bool:
        """Keep answer `number`; False when it is there already (a repeated Ray task)."""
        if self._places[number] != _MISSING:
            return False
        line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
        self._file.write(line)
        self._places[number] = self._end
        self._end += len(line)
        self.done += 1
        return True

    def fail(self, number: int) -> bool:
        """Mark answer `number` as failed; False when it was settled before."""
        if self._places[number] != _MISSING:
            return False
        self._places[number] = _FAILED
        return True

    def is_missing(self, number: int) -> bool:
        """Neither there nor failed."""
        return self._places[number] == _MISSING

    @property
    def missing(self) -> int:
        """How many are neither there nor failed."""
        return self._places.count(_MISSING)

    def in_order(self) -> Iterator[bytes]:
        """The lines in the input's order."""
        self._file.flush()
        for place in self._places:
            if place >= 0:
                self._file.seek(place)
                yield self._file.readline()

    def line(self, number: int) -> bytes | None:
        """Answer `number`; None where it is not there."""
        if self._places[number] < 0:
            return None
        self._file.flush()
        self._file.seek(self._places[number])
        return self._file.readline()

    def flush(self) -> None:
        """Hand what came so far to the operating system, which outlives a killed job."""
        self._file.flush()

    def close(self, keep: bool = False) -> None:
        """Close the file, and remove it unless it is to be kept."""
        self._file.close()
        if not keep:
            self.path.unlink(missing_ok=True)


def write_answers(path: Path, lines: Iterable[bytes], output_format: str, one_each: bool) -> None:
    """The final file, written beside its place and renamed.

    Args:
        path: where it goes.
        lines: `Sample.to_dict()` as JSON lines, in order.
        output_format: `jsonl`, or `sharegpt` for the upstream's JSON array.
        one_each: one answer a prompt, so that sharegpt rows keep the prompt's own id.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            chunks = lines if output_format == "jsonl" else _sharegpt_array(lines, one_each)
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_errors(folder: Path, output: str, rows: Iterable[bytes]) -> Path | None:
    """Put `rows` into the folder's `errors.jsonl`; those of an earlier run of `output` go.

    Rows carry `"output": NAME`, because several outputs share a folder. Returns
    the file, or None when it holds nothing of this run.
    """
    path, mine = folder / ERRORS_NAME, 0
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        if path.exists():
            with path.open("rb") as before:
                file.writelines(line for line in before if not _is_of(line, output))
        for row in rows:
            file.write(row)
            mine += 1
        size = file.tell()
    if size:
        temporary.replace(path)
    else:
        temporary.unlink()
        path.unlink(missing_ok=True)
    return path if mine else None


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
