"""Single answers as examples, each good or bad, and their prompts with other prompts' answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from autoalign.training.batches import Batch, collate
from autoalign.training.examples import Layout
from autoalign.training.shards import sizes_of
from autoalign.training.tokens import RowTable, TokenRow


@dataclass(frozen=True)
class MismatchedLogps:
    """The reference's log-probs of answers after prompts that they do not answer.

    Args:
        keys: (rows,) int64, sorted: prompt's example times the number of examples, plus answer's.
        logps: (rows,) float32, summed over each answer.
    """

    keys: np.ndarray
    logps: np.ndarray


@dataclass(frozen=True)
class Singles:
    """Every row is an example with a label; the loss is a mean over rows.

    KTO's KL term (arXiv:2402.01306, section 4.1) wants each prompt of a step with the answer to another
    of its prompts: the one before it, the first with the last one's.

    Args:
        max_length: tokens that a prompt with another's answer is cut to.
        ref_logps: (rows,) summed log-probs of the answers under the reference, where precomputed.
        mismatched_ref_logps: the same of the other prompts' answers.
    """

    table: RowTable
    max_length: int
    ref_logps: np.ndarray | None = None
    mismatched_ref_logps: MismatchedLogps | None = None

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
        return float(len(wanted))

    def supervised_tokens(self, wanted: Sequence[int]) -> int:
        return int(self.table.supervised_counts[list(wanted)].sum())

    def batch(self, wanted: Sequence[int], layout: Layout, step: Sequence[int]) -> Batch:
        batch = collate([self.table.row(row) for row in wanted], *layout)
        desirable = torch.from_numpy(self.table.labels[list(wanted)])
        refs = None if self.ref_logps is None else torch.from_numpy(self.ref_logps[list(wanted)])
        return replace(batch, desirable=desirable, ref_logps=refs)

    def mismatched(self, wanted: Sequence[int], layout: Layout, step: Sequence[int]) -> Batch:
        """The prompts of `wanted`, each with the answer to another prompt of the step."""
        others = self.partners(step)
        pairs = [(example, others[example]) for example in wanted]
        return self.crossed(pairs, layout)

    def crossed(self, pairs: Sequence[tuple[int, int]], layout: Layout) -> Batch:
        """The first one's prompt with the second one's answer, of each pair of examples."""
        batch = collate([self._crossed(*pair) for pair in pairs], *layout)
        known = self.mismatched_ref_logps
        if known is None:
            return batch
        at = np.searchsorted(known.keys, np.array([self.key(*pair) for pair in pairs], np.int64))
        return replace(batch, ref_logps=torch.from_numpy(known.logps[at]))

    def partners(self, step: Sequence[int]) -> dict[int, int]:
        """Whose answer each example of the step is crossed with; of another prompt, where there is one."""
        ordered = sorted(step)
        if len(ordered) == 1:  # an epoch's last step may hold but one
            return {ordered[0]: (ordered[0] + 1) % len(self.table)}
        return {example: self._partner(example, ordered, at) for at, example in enumerate(ordered)}

    def key(self, example: int, other: int) -> int:
        """One number for a prompt's example and an answer's, as `MismatchedLogps` has them."""
        return example * len(self.table) + other

    def crossings(self, steps: Iterable[Sequence[int]]) -> np.ndarray:
        """(rows,) sorted keys of all that these steps cross."""
        found = {self.key(*pair) for step in steps for pair in self.partners(step).items()}
        return np.array(sorted(found), np.int64)

    def _partner(self, example: int, ordered: Sequence[int], at: int) -> int:
        before = (ordered[at - back] for back in range(1, len(ordered)))
        return next((other for other in before if self._differs(example, other)), ordered[at - 1])

    def _differs(self, example: int, other: int) -> bool:
        return not np.array_equal(self._prompt(example), self._prompt(other))

    def _prompt(self, example: int) -> np.ndarray:
        row = self.table.row(example)
        return row.input_ids[: int(np.argmax(row.supervised))]

    def _crossed(self, example: int, other: int) -> TokenRow:
        prompt, answer = self._prompt(example), self.table.row(other)
        start = int(np.argmax(answer.supervised))
        ids = np.concatenate([prompt, answer.input_ids[start:]])
        supervised = np.concatenate([np.zeros(len(prompt), bool), answer.supervised[start:]])
        return TokenRow(ids[: self.max_length], supervised[: self.max_length])
