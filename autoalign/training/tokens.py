"""Tokenised training rows: made once, before any worker holds a GPU, and cached by content."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from autoalign import chat, manifest, model_folder
from autoalign.atomic_files import replacing
from autoalign.errors import ConfigError, DataError, TemplateError
from autoalign.records import Conversation

if TYPE_CHECKING:
    import pyarrow as pa

CACHE_VERSION = "6"
_BATCH = 512
_POOL_FROM = 32 * _BATCH
"""Rows from which processes pay for their start; the tokenizer uses all cores below that too."""


class TokenRow(NamedTuple):
    """One row: `input_ids` (tokens,) int32; `supervised` (tokens,) bool, what the loss covers."""

    input_ids: np.ndarray
    supervised: np.ndarray


class TokenCounts(NamedTuple):
    """What happened to the rows on their way in."""

    rows: int = 0
    truncated: int = 0
    dropped: int = 0
    tokens: int = 0
    supervised_tokens: int = 0

    def plus(self, other: TokenCounts) -> TokenCounts:
        """Field by field."""
        return TokenCounts(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


class RowTable(Protocol):
    """Tokenised rows, in one piece (`TokenTable`) or in shards (`shards.ShardedTable`)."""

    def __len__(self) -> int: ...

    @property
    def counts(self) -> TokenCounts:
        """What happened to the rows."""

    @property
    def lengths(self) -> Sequence[int]:
        """Tokens of each row."""

    @property
    def supervised_counts(self) -> np.ndarray:
        """(rows,) tokens the loss covers in each row."""

    @property
    def margins(self) -> np.ndarray | None:
        """(rows,) float32 margin of each row's pair; None where no pair has one."""

    @property
    def labels(self) -> np.ndarray:
        """(rows,) bool, which answers are good; for labelled answers alone."""

    def row(self, index: int) -> TokenRow:
        """Row `index`."""

    def digest(self) -> str:
        """SHA-256 (hex) that tells the rows from others."""


@dataclass(frozen=True)
class TokenTable:
    """Tokenised rows in an Arrow table: memory-mapped locally, zero-copy through Ray's object store."""

    table: pa.Table
    counts: TokenCounts

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def _columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        import pyarrow as pa

        ids = self.table["input_ids"].combine_chunks()
        mask = self.table["supervised"].combine_chunks()
        # Arrow's own `to_numpy` would import pandas: 18 MB.
        supervised = np.from_dlpack(mask.values.cast(pa.uint8())).view(bool)
        return np.from_dlpack(ids.offsets), np.from_dlpack(ids.values), supervised

    def row(self, index: int) -> TokenRow:
        """Row `index`, as views into the table."""
        offsets, ids, mask = self._columns
        part = slice(offsets[index], offsets[index + 1])
        return TokenRow(ids[part], mask[part])

    @cached_property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        counts: list[int] = np.diff(self._columns[0]).tolist()
        return counts

    @cached_property
    def supervised_counts(self) -> np.ndarray:
        """(rows,) tokens the loss covers in each row; a row's first token can't be predicted."""
        offsets, _, mask = self._columns
        predicted = mask.astype(np.int64)
        predicted[offsets[:-1]] = 0
        return np.add.reduceat(predicted, offsets[:-1])

    @cached_property
    def margins(self) -> np.ndarray | None:
        """(rows,) float32 margin of each row's pair, 0 where it has none; None where no pair has one."""
        column = self.table["margin"]
        if column.null_count == len(column):
            return None
        return np.array(column.fill_null(0.0).to_numpy())

    @cached_property
    def labels(self) -> np.ndarray:
        """(rows,) bool, which answers are good; for labelled answers alone."""
        return np.array(self.table["label"].to_numpy(), bool)

    def digest(self) -> str:
        """SHA-256 (hex) of the ids and of what is supervised."""
        digest = hashlib.sha256()
        for column in self._columns:
            digest.update(np.ascontiguousarray(column).data)
        return digest.hexdigest()


@dataclass(frozen=True)
class TokenizeOptions:
    """How conversations become token rows."""

    model_path: str
    template: chat.Template
    max_length: int
    overlong: str
    cache_dir: Path
    trust_remote_code: bool = False
    rows_per_example: int = 1
    """2 for preference pairs: both rows stay, or neither."""
    labelled: bool = False
    """Rows are answers that are good or bad."""
    skips_refused: bool = False
    """Examples that the template refuses are left out and told, instead of ending it all."""


def tokenize(
    conversations: Sequence[Conversation],
    tokenizer: Any,
    options: TokenizeOptions,
    digest: str,
    progress: Callable[[int], None] = lambda done: None,
    on_refused: Callable[[DataError], None] = lambda problem: None,
) -> TokenTable:
    """Token rows of `conversations`, from the cache when this content was tokenised before.

    Args:
        tokenizer: the one in `options.model_path`.
        digest: hash of the data's content and of how it was read.
        progress: called with the number of rows done so far.
        on_refused: called with each row that is left out because the template refuses it.

    Raises:
        DataError: the template refuses a row (file and line are named) that is not to be left out, or
            nothing is left.
        TemplateError: the masks leave out the answers or their end token.
    """
    path = options.cache_dir / "tokens" / f"{cache_key(tokenizer, options, digest)}.arrow"
    counts_path = path.with_suffix(".json")
    if not (path.is_file() and counts_path.is_file()):
        _write(path, counts_path, _encode_all(conversations, tokenizer, options, progress))
    kept = json.loads(counts_path.read_text(encoding="utf-8"))
    refused = [DataError(*each) for each in kept.pop("refused", ())]
    counts = TokenCounts(**kept)
    if not counts.rows:
        raise refused[0] if refused else no_row_left(counts, options)
    for problem in refused:
        on_refused(problem)
    return TokenTable(_memory_map(path), counts)


def no_row_left(counts: TokenCounts, options: TokenizeOptions) -> DataError:
    """Why there is nothing to train on."""
    return DataError(
        f"no row is left to train on: all {counts.dropped} are over model_max_length {options.max_length}"
        if counts.dropped
        else "no row is left to train on: the files' weights (PATH@WEIGHT) leave none"
    )


def cache_key(tokenizer: Any, options: TokenizeOptions, digest: str) -> str:
    """The name that rows of this content, made by these options, have in the cache."""
    tokenizer_digest = hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
    special = f"{tokenizer.bos_token}|{tokenizer.eos_token}"
    parts = (CACHE_VERSION, digest, options.template.digest, tokenizer_digest, special)
    limits = (str(options.max_length), options.overlong, str(options.rows_per_example), str(options.labelled))
    skips = ("refused rows left out",) if options.skips_refused else ()
    return hashlib.sha256("\n".join([*parts, *limits, *skips]).encode()).hexdigest()[:32]


class Encoded(NamedTuple):
    """Some rows, and what happened to them."""

    batch: pa.RecordBatch
    counts: TokenCounts
    refused: tuple[DataError, ...] = ()
    """What the template refuses and is left out, one an example."""


def encode_rows(
    conversations: Sequence[Conversation], tokenizer: Any, options: TokenizeOptions
) -> Iterator[Encoded]:
    """Encode in batches, in order, in this process; no rows at all give one empty batch."""
    for start in range(0, max(1, len(conversations)), _BATCH):
        yield _encode(conversations[start : start + _BATCH], tokenizer, options)


def _encode_all(
    conversations: Sequence[Conversation],
    tokenizer: Any,
    options: TokenizeOptions,
    progress: Callable[[int], None],
) -> Iterator[Encoded]:
    """Encode in batches, in order; large data on all cores."""
    batches = [conversations[start : start + _BATCH] for start in range(0, len(conversations), _BATCH)]
    done = 0
    for batch, encoded in zip(batches, _map(batches, tokenizer, options), strict=True):
        yield encoded
        done += len(batch)
        progress(done)


def _map(
    batches: Sequence[Sequence[Conversation]], tokenizer: Any, options: TokenizeOptions
) -> Iterator[Encoded]:
    if len(batches) * _BATCH < _POOL_FROM:
        yield from map(partial(_encode, tokenizer=tokenizer, options=options), batches)
        return
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), _start_worker, (options,)) as pool:
        yield from pool.map(_encode_in_worker, batches)


_worker: tuple[Any, TokenizeOptions] | None = None


def _start_worker(options: TokenizeOptions) -> None:
    global _worker
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _worker = (model_folder.load_tokenizer(options.model_path, options.trust_remote_code), options)


def _encode_in_worker(batch: Sequence[Conversation]) -> Encoded:
    assert _worker is not None
    return _encode(batch, *_worker)


def _encode(batch: Sequence[Conversation], tokenizer: Any, options: TokenizeOptions) -> Encoded:
    kept: list[TokenRow] = []
    margins: list[float | None] = []
    labels: list[bool | None] = []
    truncated = dropped = 0
    refused: list[DataError] = []
    rows = _rows(batch, tokenizer, options.template)
    for start in range(0, len(rows), options.rows_per_example):
        found = rows[start : start + options.rows_per_example]
        problems = [row for row in found if isinstance(row, DataError)]
        if problems and not options.skips_refused:
            raise problems[0]
        if problems:
            refused.append(problems[0])
            continue
        example = [row for row in found if isinstance(row, TokenRow)]
        cut = [
            TokenRow(row.input_ids[: options.max_length], row.supervised[: options.max_length])
            for row in example
        ]
        overlong = sum(len(row.input_ids) > options.max_length for row in example)
        if overlong and (options.overlong == "drop" or not all(row.supervised[1:].any() for row in cut)):
            dropped += len(example)
            continue
        truncated += overlong
        kept += cut
        margins += [batch[start].extra.get("margin") if options.rows_per_example == 2 else None] * len(cut)
        labels += [batch[start].extra["label"] if options.labelled else None] * len(cut)
    tokens = sum(len(row.input_ids) for row in kept)
    supervised = sum(int(row.supervised[1:].sum()) for row in kept)
    counts = TokenCounts(len(kept), truncated, dropped, tokens, supervised)
    return Encoded(_record_batch(kept, margins, labels), counts, tuple(refused))


def _record_batch(
    rows: Sequence[TokenRow], margins: Sequence[float | None], labels: Sequence[bool | None]
) -> pa.RecordBatch:
    import pyarrow as pa

    columns = [
        pa.array([row.input_ids for row in rows], pa.large_list(pa.int32())),
        pa.array([row.supervised for row in rows], pa.large_list(pa.bool_())),
        pa.array(margins, pa.float32()),
        pa.array(labels, pa.bool_()),
    ]
    return pa.RecordBatch.from_arrays(columns, ["input_ids", "supervised", "margin", "label"])


def _rows(
    batch: Sequence[Conversation], tokenizer: Any, template: chat.Template
) -> list[TokenRow | DataError]:
    """Each row's tokens, its mask looked at; or why the template refuses it."""
    messages, tools = [row.messages for row in batch], [row.tools or None for row in batch]
    encoded: Sequence[chat.Encoded | DataError]
    try:
        encoded = chat.encode_batch(messages, tokenizer, template, tools=tools)
    except TemplateError:
        encoded = [_encoded_alone(row, tokenizer, template) for row in batch]
    return [
        each if isinstance(each, DataError) else _checked(row, each, tokenizer, template)
        for row, each in zip(batch, encoded, strict=True)
    ]


def _encoded_alone(row: Conversation, tokenizer: Any, template: chat.Template) -> chat.Encoded | DataError:
    try:
        return chat.encode(row.messages, tokenizer, template, tools=row.tools or None)
    except TemplateError as error:
        return DataError(f"template '{template.name}' refuses the row: {error}", row.source, row.line)


def _checked(row: Conversation, encoded: chat.Encoded, tokenizer: Any, template: chat.Template) -> TokenRow:
    try:
        chat.check_mask(encoded, tokenizer, template)
    except TemplateError as error:
        raise TemplateError(f"{row.source}:{row.line}: {error}") from None
    return TokenRow(np.asarray(encoded.input_ids, np.int32), np.asarray(encoded.labels) != chat.IGNORED)


def _write(path: Path, counts_path: Path, encoded: Iterator[Encoded]) -> None:
    """Write batches as they come: memory holds one of them."""
    import pyarrow as pa

    counts, refused = TokenCounts(), list[DataError]()
    try:
        schema = _record_batch([], [], []).schema
        with replacing(path) as temporary:
            with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
                for batch, more, left_out in encoded:
                    writer.write_batch(batch)
                    counts = counts.plus(more)
                    refused += left_out
            told = [(each.message, each.file, each.line) for each in refused]
            manifest.write_json(counts_path, {**counts._asdict(), "refused": told})
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise ConfigError(
            f"tokenised data can't be kept in {path.parent}: {reason}; give another folder with --cache_dir"
        ) from None


def _memory_map(path: Path) -> pa.Table:
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()
