"""Data larger than memory: Ray Data tokenises files block by block, into shards."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from autoalign import formats, model_folder
from autoalign.errors import DataError, TemplateError
from autoalign.formats import Block, Kind
from autoalign.records import Conversation
from autoalign.training.shards import INDEX, ShardedTable, ShardWriter, open_shards
from autoalign.training.tokens import TokenCounts, TokenizeOptions, cache_key, encode_rows, no_row_left

SHARD_ROWS = 8192
_SHOWN = 20
_TASKS = 2048
_BAD_ROWS = "errors.jsonl"
AUTOMATIC = 1 << 30
"""Bytes of data from which on it is streamed unless the config says otherwise."""

RowsOf = Callable[[formats.Record], Sequence[Conversation]]


@dataclass(frozen=True)
class Reading:
    """How blocks become token rows, wherever they do.

    Args:
        keeps_bad_rows: bad rows are wanted as they stand, for quarantine.
        rows_of: a record's rows.
    """

    kind: Kind
    format: str | None
    seed: int
    keeps_bad_rows: bool
    options: TokenizeOptions
    rows_of: RowsOf


class BadRow(NamedTuple):
    """A row that is left out, and why."""

    problem: DataError
    raw: formats.RawRow


class Prepared(NamedTuple):
    """Shards, and what was left out on the way to them."""

    table: ShardedTable
    bad_rows: int


def prepare(
    split: formats.Split,
    reading: Reading,
    tokenizer: Any,
    digest: str,
    problems: formats.Problems,
    with_ray: bool,
    progress: Callable[[int], None] = lambda done: None,
) -> Prepared:
    """Tokenised shards of all blocks, in order; from the cache when this content was tokenised before.

    The driver holds a shard at a time, and four numbers of every row.

    Args:
        with_ray: in parallel tasks of Ray Data; otherwise here, one block after the other.

    Raises:
        DataError: bad rows (as `formats.load` says it), the template refuses one, or none is left.
        TemplateError: the masks leave out the answers or their end token.
    """
    key = cache_key(tokenizer, reading.options, f"{digest}:{reading.keeps_bad_rows}")
    folder = reading.options.cache_dir / "tokens" / key
    if not (folder / INDEX).is_file():
        writer, rows = ShardWriter(folder), 0
        shutil.rmtree(writer.partial, ignore_errors=True)
        writer.partial.mkdir(parents=True)
        try:
            with problems:
                for result in (_in_tasks if with_ray else _here)(split.blocks, reading):
                    for bad in _bad_rows(result):
                        problems.add(*bad)
                    problems.count += result["hidden"]
                    rows += result["rows"]
                    if result["error"]:
                        raise _error(result["error"])
                    writer.add(result["arrow"], TokenCounts(*result["counts"]))
                    progress(rows)
            problems.check(rows, nothing_left=rows == problems.count)
            if problems.path.is_file():
                shutil.copyfile(problems.path, writer.partial / _BAD_ROWS)
            writer.close()
        finally:
            shutil.rmtree(writer.partial, ignore_errors=True)
    elif (folder / _BAD_ROWS).is_file():
        content = (folder / _BAD_ROWS).read_bytes()
        problems.path.write_bytes(content)
        problems.count = content.count(b"\n")
    table = open_shards(folder, reading.options.labelled)
    if not len(table):
        raise no_row_left(table.counts, reading.options)
    return Prepared(table, problems.count)


def _in_tasks(blocks: Sequence[Block], reading: Reading) -> Iterator[dict[str, Any]]:
    """Results in the blocks' order, from as many tasks at once as the cluster has CPUs for."""
    import ray

    from autoalign.cluster import ray_session

    with ray_session():
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.execution_options.preserve_order = True
        places = [{"at": at} for at in range(len(blocks))]
        tasks = ray.data.from_items(places, override_num_blocks=min(len(blocks), _TASKS)).flat_map(
            lambda place: encode_block(blocks[place["at"]], reading)
        )
        yield from tasks.iter_rows()


def _here(blocks: Sequence[Block], reading: Reading) -> Iterator[dict[str, Any]]:
    for block in blocks:
        yield from encode_block(block, reading)


def encode_block(block: Block, reading: Reading) -> Iterator[dict[str, Any]]:
    """A block's shards, each with what happened to its rows; the last one may end with an error."""
    options = reading.options
    tokenizer = _tokenizer(options.model_path, options.trust_remote_code)
    bad = _Bad(reading.keeps_bad_rows)
    records = formats.read_block(block, reading.kind, reading.format, reading.seed, bad.add)
    try:
        while taken := list(islice(records, SHARD_ROWS)):
            conversations = [row for record in taken for row in reading.rows_of(record)]
            shard = _arrow(conversations, tokenizer, options)
            refused = raw_refused(shard.refused, taken)
            for each in refused:
                bad.add(*each)
            yield _result(len(taken) - len(refused), bad, shard)
        if bad.entries or bad.hidden:
            yield _result(0, bad, _arrow([], tokenizer, options))
    except (DataError, TemplateError) as error:
        empty = _arrow([], tokenizer, options)
        yield {**_result(0, bad, empty), "error": json.dumps(_described(error))}


def raw_refused(refused: Sequence[DataError], records: Sequence[formats.Record]) -> list[BadRow]:
    """Those of `records` that a template refuses, as they were read; copies of a row are told once."""
    problems = {(problem.file, problem.line): problem for problem in refused}
    rows: dict[tuple[str | None, int | None], formats.Record] = {}
    if problems:
        rows = {(record.source, record.line): record for record in records}
    return [
        BadRow(problem, formats.RawRow(problem.line or 0, asdict(rows[place])))
        for place, problem in problems.items()
    ]


class _Bad:
    """Bad rows since they were last taken."""

    def __init__(self, keeps_all: bool) -> None:
        self._keeps_all = keeps_all
        self.entries: list[dict[str, Any]] = []
        self.hidden = 0

    def add(self, problem: DataError, raw: formats.RawRow) -> None:
        """Keep it, or count it where it would not be shown."""
        if self._keeps_all or len(self.entries) < _SHOWN:
            self.entries.append({**_described(problem), "row": raw.value if self._keeps_all else None})
        else:
            self.hidden += 1

    def take(self) -> tuple[str, int]:
        """What there is as JSON, and how many more there were."""
        taken = json.dumps(self.entries, default=str), self.hidden
        self.entries, self.hidden = [], 0
        return taken


def _result(records: int, bad: _Bad, shard: _Shard) -> dict[str, Any]:
    rows = records + len(bad.entries) + bad.hidden
    entries, hidden = bad.take()
    return {
        "arrow": shard.arrow,
        "counts": list(shard.counts),
        "rows": rows,
        "bad": entries,
        "hidden": hidden,
        "error": "",
    }


class _Shard(NamedTuple):
    """Token rows as an Arrow file, and what happened to the rows."""

    arrow: bytes
    counts: TokenCounts
    refused: tuple[DataError, ...]


def _arrow(conversations: Sequence[Conversation], tokenizer: Any, options: TokenizeOptions) -> _Shard:
    import pyarrow as pa

    sink, counts, refused = io.BytesIO(), TokenCounts(), list[DataError]()
    writer = None
    for batch, more, left_out in encode_rows(conversations, tokenizer, options):
        writer = writer or pa.ipc.new_file(sink, batch.schema)
        writer.write_batch(batch)
        counts = counts.plus(more)
        refused += left_out
    assert writer is not None
    writer.close()
    return _Shard(sink.getvalue(), counts, tuple(refused))


_loaded: dict[str, Any] = {}


def _tokenizer(path: str, trust_remote_code: bool) -> Any:
    """The tokenizer, loaded once in each process."""
    if path not in _loaded:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        _loaded[path] = model_folder.load_tokenizer(path, trust_remote_code)
    return _loaded[path]


def _described(error: DataError | TemplateError) -> dict[str, Any]:
    if isinstance(error, DataError):
        return {"message": error.message, "file": error.file, "line": error.line, "field": error.field}
    return {"template": str(error)}


def _error(text: str) -> DataError | TemplateError:
    given = json.loads(text)
    return TemplateError(given["template"]) if "template" in given else _data_error(given)


def _data_error(given: dict[str, Any]) -> DataError:
    return DataError(given["message"], given["file"], given["line"], given["field"])


def _bad_rows(result: dict[str, Any]) -> Iterator[BadRow]:
    for entry in json.loads(result["bad"]):
        yield BadRow(_data_error(entry), formats.RawRow(entry["line"] or 0, entry["row"]))


def is_large(paths: Sequence[str]) -> bool:
    """Whether the files are large enough to be streamed; URLs, whose size isn't asked for, don't count."""
    total = 0
    for source in formats.parse_sources(paths):
        path = Path(source.path).expanduser()
        if "://" not in source.path and path.is_file():
            total += path.stat().st_size
    return total > AUTOMATIC
