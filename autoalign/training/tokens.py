"""Tokenised training rows: made once, before any worker holds a GPU, and cached by content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from autoalign import chat
from autoalign.errors import ConfigError, DataError, TemplateError
from autoalign.records import Conversation

if TYPE_CHECKING:
    import pyarrow as pa

CACHE_VERSION = "2"
_BATCH = 512


class TokenRow(NamedTuple):
    """One row: `input_ids` (tokens,) int32; `supervised` (tokens,) bool, what the loss covers."""

    input_ids: np.ndarray
    supervised: np.ndarray


class TokenCounts(NamedTuple):
    """What happened to the rows on their way in."""

    rows: int
    truncated: int
    dropped: int
    tokens: int
    supervised_tokens: int


@dataclass(frozen=True)
class TokenTable:
    """Tokenised rows in an Arrow table: memory-mapped locally, zero-copy through Ray's object store."""

    table: pa.Table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def _columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        ids = self.table["input_ids"].combine_chunks()
        mask = self.table["supervised"].combine_chunks()
        offsets = ids.offsets.to_numpy()
        return offsets, ids.values.to_numpy(), mask.values.to_numpy(zero_copy_only=False)

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

    @property
    def counts(self) -> TokenCounts:
        """The counts stored with the table."""
        metadata = self.table.schema.metadata
        return TokenCounts(*(int(metadata[field.encode()]) for field in TokenCounts._fields))


@dataclass(frozen=True)
class TokenizeOptions:
    """How conversations become token rows."""

    template: chat.Template
    max_length: int
    overlong: str
    cache_dir: Path


def default_cache_dir() -> Path:
    """`AUTOALIGN_CACHE`, or `~/.cache/autoalign`."""
    return Path(os.environ.get("AUTOALIGN_CACHE", "~/.cache/autoalign")).expanduser()


def tokenize(
    conversations: Sequence[Conversation],
    tokenizer: Any,
    options: TokenizeOptions,
    digest: str,
    progress: Callable[[int], None] = lambda done: None,
) -> TokenTable:
    """Token rows of `conversations`, from the cache when this content was tokenised before.

    Args:
        digest: hash of the data's content and of how it was read.
        progress: called with the number of rows done so far.

    Raises:
        DataError: the template refuses a row (file and line are named), or nothing is left.
        TemplateError: the masks leave out the answers or their end token.
    """
    path = options.cache_dir / "tokens" / f"{_key(tokenizer, options, digest)}.arrow"
    if not path.is_file():
        _write(path, _make(conversations, tokenizer, options, progress))
    return TokenTable(_memory_map(path))


def _key(tokenizer: Any, options: TokenizeOptions, digest: str) -> str:
    tokenizer_digest = hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
    special = f"{tokenizer.bos_token}|{tokenizer.eos_token}"
    parts = (CACHE_VERSION, digest, options.template.digest, tokenizer_digest, special)
    return hashlib.sha256(
        "\n".join([*parts, str(options.max_length), options.overlong]).encode()
    ).hexdigest()[:32]


def _make(
    conversations: Sequence[Conversation],
    tokenizer: Any,
    options: TokenizeOptions,
    progress: Callable[[int], None],
) -> pa.Table:
    ids: list[list[int]] = []
    masks: list[np.ndarray] = []
    truncated = dropped = 0
    for encoded in _encode(conversations, tokenizer, options.template, progress):
        row, mask = encoded.input_ids, np.asarray(encoded.labels) != chat.IGNORED
        if len(row) > options.max_length:
            row, mask = row[: options.max_length], mask[: options.max_length]
            if options.overlong == "drop" or not mask[1:].any():
                dropped += 1
                continue
            truncated += 1
        ids.append(row)
        masks.append(mask)
    if not ids:
        raise DataError(
            f"no row is left to train on: all {dropped} are over model_max_length {options.max_length}"
        )
    tokens, supervised = sum(map(len, ids)), int(sum(mask[1:].sum() for mask in masks))
    return _table(ids, masks, TokenCounts(len(ids), truncated, dropped, tokens, supervised))


def _table(ids: list[list[int]], masks: list[np.ndarray], counts: TokenCounts) -> pa.Table:
    import pyarrow as pa

    columns = {
        "input_ids": pa.array(ids, pa.large_list(pa.int32())),
        "supervised": pa.array(masks, pa.large_list(pa.bool_())),
    }
    metadata = {name: str(value) for name, value in counts._asdict().items()}
    return pa.table(columns).replace_schema_metadata(metadata)


def _encode(
    conversations: Sequence[Conversation],
    tokenizer: Any,
    template: chat.Template,
    progress: Callable[[int], None],
) -> Iterator[chat.Encoded]:
    """Encode in batches: the tokenizer uses all cores inside one, and every mask is checked."""
    for start in range(0, len(conversations), _BATCH):
        batch = conversations[start : start + _BATCH]
        try:
            encoded_rows = chat.encode_batch(
                [row.messages for row in batch],
                tokenizer,
                template,
                tools=[row.tools or None for row in batch],
            )
        except TemplateError:
            raise _name_refused(batch, tokenizer, template) from None
        for row, encoded in zip(batch, encoded_rows, strict=True):
            _check_mask(row, encoded, tokenizer, template)
            yield encoded
        progress(start + len(batch))


def _name_refused(batch: Sequence[Conversation], tokenizer: Any, template: chat.Template) -> DataError:
    """The first row of `batch` that the template refuses, as an error with its place."""
    for row in batch:
        try:
            chat.encode(row.messages, tokenizer, template, tools=row.tools or None)
        except TemplateError as error:
            return DataError(f"template '{template.name}' refuses the row: {error}", row.source, row.line)
    return DataError(f"template '{template.name}' refuses a row")


def _check_mask(row: Conversation, encoded: chat.Encoded, tokenizer: Any, template: chat.Template) -> None:
    try:
        chat.check_mask(encoded, tokenizer, template)
    except TemplateError as error:
        raise TemplateError(f"{row.source}:{row.line}: {error}") from None


def _write(path: Path, table: pa.Table) -> None:
    import pyarrow as pa

    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table.combine_chunks())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        reason = os.strerror(error.errno) if error.errno else error
        raise ConfigError(
            f"tokenised data can't be kept in {path.parent}: {reason}; give another folder with --cache_dir"
        ) from None


def _memory_map(path: Path) -> pa.Table:
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()
