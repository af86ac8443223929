"""Examples to learn from, as the loop sees them: single rows, or pairs of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from autoalign.training.batches import Batch, collate
from autoalign.training.shards import sizes_of
from autoalign.training.tokens import RowTable


class Layout(NamedTuple):
    """How rows become a batch."""

    padding_free: bool
    pad_token_id: int
    shares_prompts: bool = False
    """A pair's answers share what they have in common from the start: their prompt."""


class Examples(Protocol):
    """A set of examples, told apart by their index."""

    @property
    def lengths(self) -> Sequence[int]:
        """Tokens of each example."""

    @property
    def padded_lengths(self) -> Sequence[int]:
        """Tokens that each example takes up when its rows are padded to its longest."""

    @property
    def shard_sizes(self) -> Sequence[int] | None:
        """Examples of each shard, where they lie in shards."""

    def divisor(self, wanted: Sequence[int]) -> float:
        """What the summed loss of `wanted` is divided by."""

    def supervised_tokens(self, wanted: Sequence[int]) -> int:
        """Tokens of `wanted` that the loss looks at."""

    def batch(self, wanted: Sequence[int], layout: Layout, step: Sequence[int]) -> Batch:
        """One micro-batch.

        Args:
            step: the examples of the whole optimizer step, over all workers.
        """


@dataclass(frozen=True)
class Rows:
    """Every row is an example; the loss is a mean over supervised tokens."""

    table: RowTable

    @property
    def lengths(self) -> Sequence[int]:
        return self.table.lengths

    @property
    def padded_lengths(self) -> Sequence[int]:
        return self.table.lengths

    @property
    def shard_sizes(self) -> Sequence[int] | None:
        return sizes_of(self.table)

    def divisor(self, wanted: Sequence[int]) -> float:
        return float(self.supervised_tokens(wanted))

    def supervised_tokens(self, wanted: Sequence[int]) -> int:
        return int(self.table.supervised_counts[list(wanted)].sum())

    def batch(self, wanted: Sequence[int], layout: Layout, step: Sequence[int]) -> Batch:
        return collate([self.table.row(row) for row in wanted], layout.padding_free, layout.pad_token_id)


@dataclass(frozen=True)
class Pairs:
    """Rows 2i and 2i + 1 are pair i's chosen and rejected answer; the loss is a mean over pairs.

    Args:
        ref_logps: (rows,) summed log-probs of the answers under the reference; None where the
            model works them out, or no loss needs them.
    """

    table: RowTable
    ref_logps: np.ndarray | None = None

    @cached_property
    def lengths(self) -> Sequence[int]:
        """Tokens of each pair, its prompt counted twice."""
        rows = np.asarray(self.table.lengths)
        return _like(rows[::2] + rows[1::2], self.table.lengths)

    @property
    def padded_lengths(self) -> Sequence[int]:
        """Twice the longer row of each pair."""
        rows = np.asarray(self.table.lengths)
        return _like(2 * np.maximum(rows[::2], rows[1::2]), self.table.lengths)

    @property
    def shard_sizes(self) -> Sequence[int] | None:
        return sizes_of(self.table, rows_per_example=2)

    def divisor(self, wanted: Sequence[int]) -> float:
        return float(len(wanted))

    def supervised_tokens(self, wanted: Sequence[int]) -> int:
        return int(self.table.supervised_counts[self._rows(wanted)].sum())

    def batch(self, wanted: Sequence[int], layout: Layout, step: Sequence[int]) -> Batch:
        rows = self._rows(wanted)
        batch = collate([self.table.row(row) for row in rows], *layout)
        chosen = self.table.supervised_counts[[2 * pair for pair in step]]
        refs = None if self.ref_logps is None else torch.from_numpy(self.ref_logps[rows])
        margins = self.table.margins
        return replace(
            batch,
            ref_logps=refs,
            mean_chosen_tokens=torch.tensor(float(chosen.mean())),
            margins=None if margins is None else torch.from_numpy(margins[rows[::2]]),
        )

    def with_reference(self, ref_logps: np.ndarray) -> Pairs:
        """The same pairs, with the reference's log-probs beside them."""
        return replace(self, ref_logps=ref_logps.astype(np.float32))

    @staticmethod
    def _rows(wanted: Sequence[int]) -> list[int]:
        return [row for pair in wanted for row in (2 * pair, 2 * pair + 1)]


def _like(values: np.ndarray, lengths: Sequence[int]) -> Sequence[int]:
    """`values` as `lengths` are kept: an array of a table in shards, which may be long, or a list."""
    kept: Any = values if isinstance(lengths, np.ndarray) else values.tolist()
    return kept  # type: ignore[no-any-return]
