"""Tokenised rows in many files, of which a few are open at a time; in memory stand lengths alone."""

from __future__ import annotations

import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autoalign import manifest
from autoalign.training.task import Tables
from autoalign.training.tokens import RowTable, TokenCounts, TokenRow, TokenTable

if TYPE_CHECKING:
    import pyarrow as pa

INDEX = "index.json"
_COLUMNS: dict[str, Any] = {"length": np.int32, "supervised": np.int32, "margin": np.float32, "label": bool}
_OPEN = 48
"""Shards kept open: those of a shuffle's window, and of the next."""


@dataclass(frozen=True)
class ShardedTable:
    """What `TokenTable` is, over a folder of shards.

    Args:
        folder: of the shards; another node, which has no such folder, asks `server` for them.
        counts: what happened to the rows.
        shard_sizes: rows of each shard.
        lengths: (rows,) int32 tokens of each row.
        supervised_counts: (rows,) int32 tokens the loss covers in each row.
        margins: (rows,) float32, as `TokenTable` has them.
        row_labels: (rows,) bool, as `TokenTable.labels`; None for other than labelled answers.
        server: an actor with `ShardServer`'s methods, on the node that has the folder.
    """

    folder: Path
    counts: TokenCounts
    shard_sizes: tuple[int, ...]
    lengths: Any
    supervised_counts: np.ndarray
    margins: np.ndarray | None = None
    row_labels: np.ndarray | None = None
    server: Any = None

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def labels(self) -> np.ndarray:
        """(rows,) bool, which answers are good; for labelled answers alone."""
        assert self.row_labels is not None
        return self.row_labels

    def row(self, index: int) -> TokenRow:
        """Row `index`, as views into its shard."""
        shard = int(np.searchsorted(self._starts, index, side="right")) - 1
        return self._open(shard).row(index - int(self._starts[shard]))

    def digest(self) -> str:
        """SHA-256 (hex) that tells the rows from others."""
        return hashlib.sha256((self.folder / INDEX).read_bytes()).hexdigest()

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(self.shard_sizes)])

    @cached_property
    def _opened(self) -> OrderedDict[int, TokenTable]:
        return OrderedDict()

    def _open(self, shard: int) -> TokenTable:
        table = self._opened.get(shard)
        if table is None:
            table = self._opened[shard] = TokenTable(self._read(shard), TokenCounts())
            if len(self._opened) > _OPEN:
                self._opened.popitem(last=False)
        self._opened.move_to_end(shard)
        return table

    def _read(self, shard: int) -> pa.Table:
        import pyarrow as pa

        path = shard_path(self.folder, shard)
        if path.is_file():
            with pa.memory_map(str(path)) as source:
                return pa.ipc.open_file(source).read_all()
        if self.server is None:
            raise FileNotFoundError(f"{path}: the cache of tokenised rows is gone; run the command again")
        import ray

        return pa.ipc.open_file(pa.BufferReader(ray.get(self.server.read.remote(shard)))).read_all()

    def __getstate__(self) -> dict[str, Any]:
        """Without what is open, which belongs to one process."""
        return {name: value for name, value in vars(self).items() if name not in ("_opened", "_starts")}


class ShardServer:
    """Gives shards to workers that can't read the folder."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def read(self, shard: int) -> bytes:
        """A shard's file."""
        return shard_path(self._folder, shard).read_bytes()


def served(tables: Tables) -> Tables:
    """The tables, with an actor on this node beside a folder of shards."""
    if not isinstance(tables.train, ShardedTable):
        return tables
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor: Any = ray.remote(ShardServer)
    server = actor.options(num_cpus=0, scheduling_strategy=here).remote(str(tables.train.folder))
    return tables._replace(train=replace(tables.train, server=server))


def shard_path(folder: Path, shard: int) -> Path:
    """Where shard number `shard` lies."""
    return folder / f"{shard:06d}.arrow"


class ShardWriter:
    """Writes shards into a folder that gets its name when all are there.

    Args:
        folder: the folder to make.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._sizes = folder, list[int]()
        self.partial = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        self._hash = hashlib.sha256()
        self._counts = TokenCounts()
        self._columns: dict[str, list[np.ndarray]] = {name: [] for name in _COLUMNS}

    def add(self, arrow: bytes, counts: TokenCounts) -> None:
        """Write one shard; `arrow` is an Arrow IPC file of the columns of `TokenTable`."""
        import pyarrow as pa

        self._counts = self._counts.plus(counts)
        table = TokenTable(pa.ipc.open_file(pa.BufferReader(arrow)).read_all(), counts)
        if not len(table):
            return
        shard_path(self.partial, len(self._sizes)).write_bytes(arrow)
        self._sizes.append(len(table))
        self._hash.update(arrow)
        margins = np.full(len(table), np.nan, np.float32) if table.margins is None else table.margins
        self._columns["length"].append(np.asarray(table.lengths, np.int32))
        self._columns["supervised"].append(table.supervised_counts.astype(np.int32))
        self._columns["margin"].append(margins)
        self._columns["label"].append(table.table["label"].fill_null(False).to_numpy().astype(bool))

    def close(self) -> None:
        """Write the index, and give the folder its name."""
        for name, parts in self._columns.items():
            whole = np.concatenate(parts) if parts else np.array([], _COLUMNS[name])
            np.save(self.partial / f"{name}.npy", whole, allow_pickle=False)
        content = {"counts": self._counts._asdict(), "sizes": self._sizes, "sha256": self._hash.hexdigest()}
        manifest.write_json(self.partial / INDEX, content)
        try:
            self.partial.replace(self._folder)
        except OSError:
            if not (self._folder / INDEX).is_file():  # else another process was faster
                raise


def open_shards(folder: Path, labelled: bool) -> ShardedTable:
    """The table that a `ShardWriter` left."""
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    length, supervised, margin, label = (
        np.load(folder / f"{name}.npy", allow_pickle=False) for name in _COLUMNS
    )
    return ShardedTable(
        folder,
        TokenCounts(**index["counts"]),
        tuple(index["sizes"]),
        length,
        supervised,
        None if np.isnan(margin).all() else np.nan_to_num(margin),
        label if labelled else None,
    )


def sizes_of(table: RowTable, rows_per_example: int = 1) -> Sequence[int] | None:
    """Examples of each shard; None of a table that is one piece."""
    if not isinstance(table, ShardedTable):
        return None
    return [size // rows_per_example for size in table.shard_sizes]
