"""`load`, its streaming version `iter_records`, and `check`, which keeps nothing."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import overload

from autoalign.errors import DataError, TemplateError
from autoalign.formats._files import Source, digest, parse_sources
from autoalign.formats._problems import OnBadRow, Problems
from autoalign.formats._stream import FileReader, OnProblem, Wanted
from autoalign.formats._types import Kind, Purpose, RawRow, Record, format_names, short_name
from autoalign.records import Conversation, PreferencePair

WINDOW = 1024
Paths = str | Path | Sequence[str | Path]

names = format_names


@dataclasses.dataclass(frozen=True)
class Dataset(Sequence[Record]):
    """Records in the files' order, with what they came from.

    Attributes:
        records: conversations, preference pairs, or labelled answers.
        kind: "sft", "preference" or "unpaired"; prompts are "sft".
        format: the files' format; several are joined by ", ".
        paths: the files, without weights.
        digest: sha256 (hex) over the files' bytes and weights.
        bad_rows: how many rows went to quarantine.
    """

    records: tuple[Record, ...]
    kind: Kind
    format: str
    paths: tuple[str, ...]
    digest: str
    bad_rows: int = 0

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Record, ...]: ...
    def __getitem__(self, index: int | slice) -> Record | tuple[Record, ...]:
        return self.records[index]

    def __len__(self) -> int:
        return len(self.records)

    @property
    def conversations(self) -> tuple[Conversation, ...]:
        """The records, typed; empty for preference data."""
        return tuple(record for record in self.records if isinstance(record, Conversation))

    @property
    def pairs(self) -> tuple[PreferencePair, ...]:
        """The records, typed; empty for SFT data."""
        return tuple(record for record in self.records if isinstance(record, PreferencePair))


@dataclasses.dataclass(frozen=True)
class Report:
    """What `check` found: rows read, good ones and bad ones, and the first 20 problems."""

    rows: int
    bad_rows: int
    kind: Kind | None
    format: str
    problems: tuple[DataError, ...]


def load(
    paths: Paths,
    *,
    kind: Kind | None = None,
    format: str | None = None,
    purpose: Purpose = "train",
    on_bad_row: OnBadRow = "stop",
    errors_path: str | Path | None = None,
    seed: int = 0,
    limit: int | None = None,
) -> Dataset:
    """Read whole files into memory.

    Args:
        paths: `PATH` or `PATH@WEIGHT`, one or several; JSON, JSONL, CSV or Parquet, local or fsspec URL.
        kind: refuse files of another kind; "unpaired" takes pairs apart.
        format: a format's name; found by the rows' keys where not given.
        purpose: "train", or "prompts" to answer: the answers at the end are left out.
        on_bad_row: "stop" raises after reading, with the first 20; "quarantine" leaves them out.
        errors_path: where quarantined rows are appended (default `errors.jsonl`).
        seed: which rows a fractional weight picks.
        limit: at most this many rows of each file, before weights.

    Raises:
        DataError: a file or a row is wrong.
        UnknownName: no such format.
    """
    sources, problems = parse_sources(paths), Problems(on_bad_row, errors_path)
    stream = Stream(sources, Wanted(kind, format, purpose), seed, limit)
    with problems:
        records = list(stream.records(problems.add))
    problems.check(stream.rows, nothing_left=not records)
    if len(stream.kinds) > 1 and purpose == "train":
        places = ", ".join(f"{path} is {name}" for name, path in stream.kinds.items())
        raise DataError(f"rows of different kinds are mixed: {places}")
    found: Kind = "sft" if purpose == "prompts" else next(iter(stream.kinds))
    read = tuple(source.path for source in sources)
    names_found = ", ".join(stream.formats)
    return Dataset(_distinct(records), found, names_found, read, digest(sources), problems.count)


class Stream:
    """The records of several files, one at a time; says afterwards what they were.

    Attributes:
        rows: how many rows were read.
        formats: the files' formats, in order.
        kinds: the kinds, each with the first file of it.
    """

    def __init__(self, sources: Sequence[Source], wanted: Wanted, seed: int, limit: int | None) -> None:
        if limit is not None and limit < 1:
            raise DataError(f"limit is 1 or more, found {limit}")
        self.sources, self.wanted, self.seed, self.limit = sources, wanted, seed, limit
        self.rows = 0
        self.formats: dict[str, None] = {}
        self.kinds: dict[Kind, str] = {}

    def records(self, on_problem: OnProblem) -> Iterator[Record]:
        """The good rows, weighted; bad ones go to `on_problem`."""
        for source in self.sources:
            reader = FileReader(source.path, self.wanted, on_problem)
            yield from repeat(
                islice(reader.records(), self.limit), source.weight, f"{self.seed} {source.place}"
            )
            self.rows += reader.rows
            if reader.format is not None:
                self.formats[short_name(reader.format)] = None
                # Pairs are taken apart where single answers are wanted.
                kind = "unpaired" if self.wanted.kind == "unpaired" else reader.format.KIND
                self.kinds.setdefault(kind, source.path)


def iter_records(
    paths: Paths,
    *,
    kind: Kind | None = None,
    format: str | None = None,
    purpose: Purpose = "train",
    on_bad_row: OnBadRow = "stop",
    errors_path: str | Path | None = None,
    seed: int = 0,
    limit: int | None = None,
) -> Iterator[Record]:
    """Like `load`, one record at a time: constant memory for JSONL, CSV and Parquet.

    A stream cannot look ahead: with "stop" the first bad row raises when it is reached, and a
    duplicate id stays as it is.
    """
    stream = Stream(parse_sources(paths), Wanted(kind, format, purpose), seed, limit)
    with Problems(on_bad_row, errors_path) as problems:
        yield from stream.records(problems.stop)


def refuse_bad_rows(paths: Paths, *, purpose: Purpose = "train", limit: int | None = None) -> None:
    """What `load` raises of bad rows, the first 20 of all, without keeping the good ones.

    Args:
        limit: at most this many rows of each file.

    Raises:
        DataError: rows are bad, or a file cannot be read.
    """
    problems = Problems("stop")
    stream = Stream(parse_sources(paths), Wanted(None, None, purpose), 0, limit)
    for _ in stream.records(problems.add):
        pass
    problems.check(stream.rows, nothing_left=False)


def iter_rows(
    paths: Paths, *, format: str | None = None, purpose: Purpose = "answers", on_problem: OnProblem
) -> Iterator[tuple[RawRow, Record]]:
    """Each good row as it stands in the file, with its record; constant memory as `iter_records`.

    Args:
        paths: files without weights.
        purpose: "answers" takes whatever ends in an answer, an empty one too.
        on_problem: called with each bad row, which is then left out.

    Raises:
        DataError: a file cannot be read, or a path has a weight, which is for training.
    """
    for source in parse_sources(paths):
        if source.weight != 1:
            raise DataError("a weight (PATH@WEIGHT) is for training; give the path alone", source.path)
        yield from FileReader(source.path, Wanted(None, format, purpose), on_problem).pairs()


def check(
    path: str | Path,
    *,
    kind: Kind | None = None,
    format: str | None = None,
    purpose: Purpose = "train",
    on_bad_row: OnBadRow = "stop",
    errors_path: str | Path | None = None,
    on_record: Callable[[Record], None] | None = None,
) -> Report:
    """Read one file and keep nothing but counts and the first 20 problems.

    Args:
        on_record: called with each good record; a DataError or TemplateError that it raises
            makes the row a bad one.

    Raises:
        DataError: the file cannot be read at all; bad rows are in the report.
    """
    (source,) = parse_sources(path)
    problems = Problems(on_bad_row, errors_path)
    reader = FileReader(source.path, Wanted(kind, format, purpose), problems.add)
    with problems:
        for record in reader.records():
            if on_record is not None:
                _try(on_record, record, problems)
    found = reader.format
    return Report(
        rows=reader.rows,
        bad_rows=problems.count,
        kind=found.KIND if found else None,
        format=short_name(found) if found else "",
        problems=tuple(problems.first),
    )


def _try(on_record: Callable[[Record], None], record: Record, problems: Problems) -> None:
    try:
        on_record(record)
    except (DataError, TemplateError) as error:
        message = error.message if isinstance(error, DataError) else str(error)
        problem = DataError(message, record.source, record.line, getattr(error, "field", None))
        problems.add(problem, RawRow(record.line, dataclasses.asdict(record)))


def repeat(records: Iterable[Record], weight: float, seed: str) -> Iterator[Record]:
    """Each record as often as its file's `weight` says; a fraction picks rows by `seed`.

    The picking is spread evenly (the same share of every 1,024 rows), so that it needs no
    more memory than that.
    """
    whole, fraction = divmod(weight, 1)
    if not fraction:
        for record in records:
            yield from _copies(record, int(whole))
        return
    draw = random.Random(seed)  # noqa: S311 (no secret)
    iterator, owed = iter(records), 0.0
    while window := list(islice(iterator, WINDOW)):
        owed += fraction * len(window)
        size = min(len(window), int(owed + 0.5))
        owed -= size
        picked = set(draw.sample(range(len(window)), size))
        for index, record in enumerate(window):
            yield from _copies(record, int(whole) + (index in picked))


def _copies(record: Record, count: int) -> Iterator[Record]:
    if count:
        yield record
    for copy in range(2, count + 1):
        yield dataclasses.replace(record, id=f"{record.id}#{copy}")


def _distinct(records: Sequence[Record]) -> tuple[Record, ...]:
    """Every record with an id of its own: a second `x` becomes `x#2`."""
    seen: set[str] = set()
    distinct = []
    for record in records:
        name, copy = record.id, 2
        while name in seen:
            name, copy = f"{record.id}#{copy}", copy + 1
        seen.add(name)
        distinct.append(record if name == record.id else dataclasses.replace(record, id=name))
    return tuple(distinct)
