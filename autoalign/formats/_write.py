"""Writing data files: another format, another container, complete or not at all."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import gzip
import io
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import orjson

from autoalign.atomic_files import replacing
from autoalign.errors import DataError
from autoalign.formats._files import parse_sources, suffix
from autoalign.formats._load import Paths, Stream
from autoalign.formats._problems import OnBadRow, Problems, to_json
from autoalign.formats._stream import Wanted
from autoalign.formats._types import Format, RawRow, get_format

BATCH = 1024


class Converted(NamedTuple):
    """What `convert` wrote, and how many rows it left to quarantine."""

    rows: int
    path: Path
    bad_rows: int


def convert(
    paths: Paths,
    to: str,
    output: str | Path,
    *,
    format: str | None = None,
    on_bad_row: OnBadRow = "stop",
    errors_path: str | Path | None = None,
    limit: int | None = None,
    force: bool = False,
) -> Converted:
    """Write the rows of `paths` to `output` in the format `to`, one at a time.

    Args:
        paths: as for `load`.
        to: a format's name.
        output: a file whose suffix chooses JSON, JSONL, CSV (also .gz) or Parquet.
        force: replace `output` where it exists.

    Raises:
        DataError: a row is wrong or does not fit `to`, or `output` exists; `output` is then untouched.
        UnknownName: no such format.
    """
    target, output = get_format(to), Path(output)
    suffix(str(output))
    if output.exists() and not force:
        raise DataError("is there already; give --force to replace it", file=str(output))
    problems = Problems(on_bad_row, errors_path)
    stream = Stream(parse_sources(paths), Wanted(target.KIND, format), seed=0, limit=limit)
    with problems:
        count = write_rows(output, _dumped(stream, target, problems))
    return Converted(count, output, problems.count)


def _dumped(stream: Stream, target: Format, problems: Problems) -> Iterator[dict[str, Any]]:
    """Rows in the format `target`; raises at the end, before the file gets its name, if rows were bad."""
    count = 0
    for record in stream.records(problems.add):
        try:
            row = target.dump(record)
        except DataError as error:
            problem = DataError(error.message, record.source, record.line, error.field)
            problems.add(problem, RawRow(record.line, dataclasses.asdict(record)))
            continue
        yield row
        count += 1
    problems.check(stream.rows, nothing_left=not count)


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Write `rows` under a temporary name, then rename; returns how many there were.

    Raises:
        DataError: the disk or the folder does not take them, or there is no row.
    """
    try:
        with replacing(path) as partial:
            count = _write(partial, suffix(str(path)), path.name.lower().endswith(".gz"), rows)
            if not count:
                raise DataError("no row to write", file=str(path))
    except OSError as error:
        raise DataError(f"cannot be written: {error.strerror or error}", file=str(path)) from None
    return count


def _write(partial: Path, kind: str, packed: bool, rows: Iterable[dict[str, Any]]) -> int:
    with partial.open("wb") as raw:
        if kind == ".parquet":
            return _write_parquet(raw, rows)
        with _packed(raw) if packed else contextlib.nullcontext(cast(BinaryIO, raw)) as handle:
            writer = {".json": _write_json, ".csv": _write_csv}.get(kind, _write_jsonl)
            return writer(handle, rows)


@contextlib.contextmanager
def _packed(raw: BinaryIO) -> Iterator[BinaryIO]:
    # No name and no time inside, so that the same rows give the same bytes.
    with gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as handle:
        yield cast(BinaryIO, handle)


def _write_jsonl(handle: BinaryIO, rows: Iterable[dict[str, Any]]) -> int:
    count = 0
    for row in rows:
        handle.write(to_json(row) + b"\n")
        count += 1
    return count


def _write_json(handle: BinaryIO, rows: Iterable[dict[str, Any]]) -> int:
    count = 0
    for row in rows:
        text = orjson.dumps(row, default=str, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS)
        handle.write((b",\n" if count else b"[\n") + text)
        count += 1
    handle.write(b"\n]\n" if count else b"[]\n")
    return count


def _write_csv(handle: BinaryIO, rows: Iterable[dict[str, Any]]) -> int:
    """The first row's keys are the columns; turns stand in a cell as JSON text."""
    text = io.TextIOWrapper(handle, encoding="utf-8", newline="")
    writer, count = None, 0
    for row in rows:
        if writer is None:
            writer = csv.DictWriter(text, list(row))
            writer.writeheader()
        try:
            writer.writerow({key: _cell(value) for key, value in row.items()})
        except ValueError:
            raise DataError(f"row {count + 1} has other keys than the first; write JSONL instead") from None
        count += 1
    text.flush()
    text.detach()
    return count


def _cell(value: object) -> object:
    return to_json(value).decode() if isinstance(value, list | dict) else value


def _write_parquet(handle: BinaryIO, rows: Iterable[dict[str, Any]]) -> int:
    """In batches of 1,024 rows; the first one's columns and types hold for all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    iterator, writer, count = iter(rows), None, 0
    try:
        while batch := list(islice(iterator, BATCH)):
            schema = writer.schema if writer else None
            table = pa.Table.from_pylist(batch, schema=schema)
            if writer is None:
                writer = pq.ParquetWriter(handle, table.schema)
            writer.write_table(table)
            count += len(batch)
    except pa.ArrowException as error:
        raise DataError(f"these rows have no common Parquet columns: {error}; write JSONL instead") from None
    finally:
        if writer:
            writer.close()
    return count
