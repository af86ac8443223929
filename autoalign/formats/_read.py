"""Rows of a file, each with its line: JSONL, CSV and Parquet as a stream, a JSON array from memory."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, NoReturn

import orjson

from autoalign.errors import DataError
from autoalign.formats._files import open_content, open_raw, suffix
from autoalign.formats._json import document_rows
from autoalign.formats._types import RawRow

BOM = b"\xef\xbb\xbf"
CELL_LIMIT = 2**31 - 1
JSON_COLUMNS = frozenset(
    ("conversations", "messages", "tools", "history", "preferred_output", "non_preferred_output")
)
TEXT_OR_TURNS = frozenset(("input", "prompt", "completion", "chosen", "rejected"))


def read_lines(path: str, start: int, end: int, first_line: int) -> Iterator[RawRow]:
    """The rows of a JSONL file between two bytes, each where a line begins; lines count from `first_line`."""
    with open_raw(path) as handle:
        handle.seek(start)
        data = handle.read(end - start)
    yield from _jsonl_rows(io.BytesIO(data if start else data.removeprefix(BOM)), path, first_line, start)


def read_row_groups(path: str, groups: Sequence[int], first_row: int) -> Iterator[RawRow]:
    """The rows of some row groups of a Parquet file; rows count from `first_row`."""
    with open_raw(path) as handle:
        yield from _parquet_rows(handle, path, groups, first_row)


def read_rows(path: str) -> Iterator[RawRow]:
    """Every row of the file, in order; `line` is 1-based (the row's number in Parquet).

    A row that cannot be decoded comes with its `problem`, where reading can go on after it.

    Raises:
        DataError: the file is missing, empty, not UTF-8, or broken beyond the row.
    """
    kind = suffix(path)
    count = 0
    with open_content(path) as handle:
        for row in _rows(handle, path, kind):
            count += 1
            yield row
    if not count:
        raise DataError("the file is empty: it holds no rows", file=path)


def _rows(handle: BinaryIO, path: str, kind: str) -> Iterator[RawRow]:
    if kind == ".parquet":
        return _parquet_rows(handle, path)
    if kind == ".csv":
        return _csv_rows(handle, path)
    return _json_rows(handle, path, kind)


def _json_rows(handle: BinaryIO, path: str, kind: str) -> Iterator[RawRow]:
    """JSONL or one JSON document, by what the first line with text on it looks like."""
    head: list[bytes] = []
    for line in handle:
        head.append(line.removeprefix(BOM) if not head else line)
        if head[-1].strip():
            break
    first = head[-1] if head else b""
    if first.lstrip().startswith(b"[") or (kind == ".json" and not is_json(first)):
        text = _decode(b"".join(head) + handle.read(), path)
        return document_rows(text, path) if text.strip() else iter(())
    return _jsonl_rows(itertools.chain(head, handle), path)


def is_json(line: bytes) -> bool:
    """Whether a line is one whole JSON value: the first of a `.json` file that is JSONL is."""
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True


def _jsonl_rows(lines: Iterable[bytes], path: str, first: int = 1, offset: int = 0) -> Iterator[RawRow]:
    for number, line in enumerate(lines, first):
        if line.strip():
            try:
                yield RawRow(number, orjson.loads(line))
            except orjson.JSONDecodeError as error:
                text = _decode(line, path, number, offset)
                reason = f"{error.msg}; a line holds one whole JSON object"
                problem = DataError(f"broken JSON at column {error.colno}: {reason}", path, number)
                yield RawRow(number, text.rstrip(), problem)
        offset += len(line)


def _decode(data: bytes, path: str, line: int = 1, offset: int = 0) -> str:
    """UTF-8 text; `line` and `offset` (bytes) say where in the file `data` begins."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        _refuse_encoding(
            data, error.start, path, line + data[: error.start].count(b"\n"), offset + error.start
        )


def _refuse_encoding(data: bytes, index: int, path: str, line: int, position: int) -> NoReturn:
    guess = "UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "GB18030"
    raise DataError(
        f"not UTF-8: byte 0x{data[index]:02x} at position {position}; save the file as UTF-8, "
        f"for example: iconv -f {guess} -t UTF-8 OLD > NEW (with its real encoding after -f)",
        file=path,
        line=line,
    )


def _csv_rows(handle: BinaryIO, path: str) -> Iterator[RawRow]:
    csv.field_size_limit(CELL_LIMIT)
    reader = csv.reader(_text_lines(handle, path), strict=True)
    try:
        header = next(reader, [])
        if len(set(header)) < len(header):
            raise DataError(f"a column name is there twice: {', '.join(header)}", file=path, line=1)
        end = reader.line_num
        for cells in reader:
            line, end = end + 1, reader.line_num
            if cells:
                yield _csv_row(header, cells, path, line)
    except csv.Error as error:
        raise DataError(f"broken CSV: {error}", file=path, line=reader.line_num) from None


def _text_lines(handle: BinaryIO, path: str) -> Iterator[str]:
    offset = 0
    for number, line in enumerate(handle, 1):
        yield _decode(line.removeprefix(BOM) if number == 1 else line, path, number, offset)
        offset += len(line)


def _csv_row(header: list[str], cells: list[str], path: str, line: int) -> RawRow:
    if len(cells) != len(header):
        message = f"{len(header)} cells are expected, as in the header, found {len(cells)}"
        return RawRow(line, cells, DataError(message, path, line))
    return RawRow(line, {key: _cell(key, cell) for key, cell in zip(header, cells, strict=True)})


def _cell(key: str, cell: str) -> object:
    """Turns and tools stand in a cell as JSON text; text that only looks like JSON stays text."""
    if key not in JSON_COLUMNS | TEXT_OR_TURNS or not cell.startswith(("[", "{")):
        return cell
    try:
        value = orjson.loads(cell)
    except orjson.JSONDecodeError:
        return cell
    if key == "input":  # of OpenAI's preferences; Alpaca's is text
        decoded = isinstance(value, dict) and isinstance(value.get("messages"), list)
    else:
        decoded = key in JSON_COLUMNS or _holds_turns(value)
    return value if decoded else cell


def _holds_turns(value: object) -> bool:
    """One turn, or a list that has one: a turn beside which the others are wrong is to be told."""
    if isinstance(value, list):
        return any(isinstance(item, dict) and _holds_turns(item) for item in value)
    keys = value.keys() if isinstance(value, dict) else ()
    return {"from", "value"} <= set(keys) or ("role" in keys and ("content" in keys or "tool_calls" in keys))


def _parquet_rows(
    handle: BinaryIO, path: str, groups: Sequence[int] | None = None, first: int = 1
) -> Iterator[RawRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        number = first
        for batch in pq.ParquetFile(handle).iter_batches(batch_size=1024, row_groups=groups):
            for value in batch.to_pylist():
                yield RawRow(number, without_nulls(value))
                number += 1
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"not a readable Parquet file: {error}", file=path) from None


def without_nulls(value: object) -> object:
    """Parquet gives every struct all keys; those that hold nothing were absent when written."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value
