"""Files in blocks that can be read apart from each other, each knowing its first line."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO, NamedTuple

from autoalign.errors import DataError
from autoalign.formats._files import CHUNK, Source, open_content, open_raw, suffix
from autoalign.formats._load import repeat
from autoalign.formats._read import BOM, read_lines, read_row_groups, read_rows
from autoalign.formats._stream import FileReader, OnProblem, Wanted
from autoalign.formats._types import Kind, RawRow, Record, get_format, short_name

BLOCK = 8 << 20


@dataclass(frozen=True)
class Block:
    """A part of a file.

    Attributes:
        source: the file, and how often its rows count.
        format: the format of the file's first good row; empty where it has none.
        start, end: bytes of JSONL, or row groups of Parquet; 0 and 0 for a whole file.
        first_line: the line (in Parquet, the row) it begins with.
    """

    source: Source
    format: str
    start: int = 0
    end: int = 0
    first_line: int = 1

    def rows(self) -> Iterator[RawRow]:
        """The block's rows, with their lines in the file."""
        if not self.end:
            return read_rows(self.source.path)
        if suffix(self.source.path) == ".parquet":
            return read_row_groups(self.source.path, range(self.start, self.end), self.first_line)
        return read_lines(self.source.path, self.start, self.end, self.first_line)


class Split(NamedTuple):
    """Blocks of all files, in order; `digest` as `load` gives it."""

    blocks: list[Block]
    formats: list[str]
    digest: str


def split(sources: Sequence[Source], kind: Kind, format: str | None, size: int = BLOCK) -> Split:
    """Cut files into blocks of about `size` bytes, reading each once (for its digest) and keeping nothing.

    JSONL is cut at line ends and Parquet at row groups; other files, and packed ones, are one block.

    Raises:
        DataError: a file can't be read, or holds rows of another kind.
    """
    blocks: list[Block] = []
    formats: dict[str, None] = {}
    total = hashlib.sha256()
    for source in sources:
        name = _first_format(source.path, Wanted(kind, format))
        formats[name] = None
        content, cuts = _scan(source.path, size)
        total.update(f"{content} {source.weight!r}\n".encode())
        blocks += [Block(source, name, *cut) for cut in cuts]
    return Split(blocks, list(formats), total.hexdigest())


def read_block(
    block: Block, kind: Kind, format: str | None, seed: int, on_problem: OnProblem
) -> Iterator[Record]:
    """The block's good rows as records, weighted; bad ones go to `on_problem`.

    A fractional weight picks its share of every block by the seed and the block's place.
    """
    reader = FileReader(block.source.path, Wanted(kind, format), on_problem, block.rows())
    reader.format = get_format(block.format) if block.format else None
    source = block.source
    yield from repeat(reader.records(), source.weight, f"{seed} {source.place} {block.start}")


def _first_format(path: str, wanted: Wanted) -> str:
    reader = FileReader(path, wanted, lambda problem, raw: None)
    next(iter(islice(reader.records(), 1)), None)
    return short_name(reader.format) if reader.format else ""


def _scan(path: str, size: int) -> tuple[str, list[tuple[int, int, int]]]:
    """A file's digest, and where to cut it: (start, end, first line)."""
    content = hashlib.sha256()
    if suffix(path) == ".parquet":
        with open_raw(path) as handle:
            while chunk := handle.read(CHUNK):
                content.update(chunk)
            handle.seek(0)
            return content.hexdigest(), _row_groups(handle, path, size)
    is_lines = suffix(path) in (".jsonl", ".ndjson") and not path.lower().endswith(".gz") and _is_lines(path)
    cuts: list[tuple[int, int, int]] = []
    start = position = 0
    line = first_line = 1
    with open_raw(path) as handle:
        while chunk := handle.read(CHUNK):
            content.update(chunk)
            end = chunk.rfind(b"\n") + 1
            if is_lines and end and position + end - start >= size:
                cuts.append((start, position + end, first_line))
                line += chunk.count(b"\n", 0, end)
                start, first_line = position + end, line
                line += chunk.count(b"\n", end)
            else:
                line += chunk.count(b"\n")
            position += len(chunk)
    if not is_lines or not cuts:
        return content.hexdigest(), [(0, 0, 1)]
    if start < position:
        cuts.append((start, position, first_line))
    return content.hexdigest(), cuts


def _is_lines(path: str) -> bool:
    """Whether a .jsonl file is that, and not one JSON array."""
    with open_content(path) as handle:
        head = handle.read(CHUNK).removeprefix(BOM).lstrip()
    return not head.startswith(b"[")


def _row_groups(handle: BinaryIO, path: str, size: int) -> list[tuple[int, int, int]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.ParquetFile(handle).metadata
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"not a readable Parquet file: {error}", file=path) from None
    cuts, start, first, rows, held = [], 0, 1, 0, 0
    for group in range(metadata.num_row_groups):
        held += metadata.row_group(group).total_byte_size
        rows += metadata.row_group(group).num_rows
        if held >= size or group + 1 == metadata.num_row_groups:
            cuts.append((start, group + 1, first))
            start, first, rows, held = group + 1, first + rows, 0, 0
    return cuts
