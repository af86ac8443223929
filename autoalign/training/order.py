"""Which rows meet in which step: a pure function of lengths, seed and step.

A step's global batch depends on the seed and the number of rows in it alone, not on how
many workers share it, so that two workers compute what one would, and a resumed run sees
what the unbroken one would have seen, with no state but the step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from autoalign.config.grpo import GRPOConfig
from autoalign.config.train import TrainConfig
from autoalign.training.acceleration.sequence_parallel import replicas_of
from autoalign.training.packing import Bin, cut, pack

if TYPE_CHECKING:
    from autoalign.training.examples import Examples

_GROUPS_PER_SORT = 50
"""Global batches whose rows are sorted together: long enough to find similar lengths."""


@dataclass(frozen=True)
class Budget:
    """Tokens that a micro-batch may hold.

    Args:
        tokens: the limit; a longer example is alone.
        lengths: tokens that each example takes up.
        padded: every example of a micro-batch takes up as much as its longest.
        workers: who share the micro-batches; a step has a multiple of it.
    """

    tokens: int
    lengths: Sequence[int]
    padded: bool
    workers: int = 1

    def parts(self, examples: Sequence[int]) -> list[list[int]]:
        """The examples cut into micro-batches, the same for any number of workers, then empty ones."""
        parts = cut(examples, self.lengths, self.tokens, self.padded)
        return parts + [[] for _ in range(-len(parts) % self.workers)]


def data_order(
    config: TrainConfig, examples: Examples, world_size: int, padding_free: bool = True
) -> DataOrder:
    """The examples of every step; `sequence_parallel_size` of the `world_size` workers count as one."""
    if isinstance(config, GRPOConfig):
        prompts = config.prompts_per_step(world_size)
        return DataOrder(examples.lengths, prompts, 1, config.seed, group_by_length=False)
    replicas = replicas_of(world_size, config.sequence_parallel_size)
    order = DataOrder(
        lengths=examples.lengths,
        micro_batch_size=config.per_device_train_batch_size,
        micro_batches=config.micro_batches(world_size),
        seed=config.seed,
        capacity=config.model_max_length if config.packing else None,
        group_by_length=config.group_by_length,
        budget=_budget(config, examples, replicas, padding_free),
    )
    if examples.shard_sizes is None:
        return order
    from autoalign.training.windows import WindowedOrder

    given = {part.name: getattr(order, part.name) for part in fields(order) if part.init}
    return WindowedOrder(**given, shard_sizes=examples.shard_sizes)


def evaluation_parts(
    config: TrainConfig, examples: Examples, replicas: int, padding_free: bool
) -> list[list[int]]:
    """All examples in micro-batches for evaluation, longest first; a multiple of `replicas` of them."""
    budget = _budget(config, examples, replicas, padding_free)
    everything = sorted(range(len(examples.lengths)), key=lambda example: -examples.lengths[example])
    if budget is not None:
        return budget.parts(everything)
    size = config.per_device_eval_batch_size
    parts = _cut_into(everything, size)
    return parts + [[] for _ in range(-len(parts) % replicas)]


def total_steps(config: TrainConfig, order: DataOrder) -> int:
    """Optimizer steps of the whole job."""
    if config.max_steps > 0:
        return config.max_steps
    return max(1, math.ceil(config.num_train_epochs * order.steps_per_epoch * config.steps_per_batch))


def _budget(config: TrainConfig, examples: Examples, workers: int, padding_free: bool) -> Budget | None:
    if config.max_tokens_per_batch is None:
        return None
    lengths = examples.lengths if padding_free else examples.padded_lengths
    return Budget(config.max_tokens_per_batch, lengths, not padding_free, workers)


@dataclass
class DataOrder:
    """The rows of every step.

    Args:
        lengths: tokens of each row.
        micro_batch_size: bins a worker takes at once.
        micro_batches: micro-batches in a global step, over all workers.
        capacity: tokens a packed bin holds; None: every row is a bin of its own.
        budget: tokens of a micro-batch; the step's rows are cut by it instead of `micro_batches`.
    """

    lengths: Sequence[int]
    micro_batch_size: int
    micro_batches: int
    seed: int
    capacity: int | None = None
    group_by_length: bool = True
    budget: Budget | None = None
    _epoch: tuple[int, list[Bin]] | None = field(default=None, init=False, repr=False)

    @property
    def batch_size(self) -> int:
        """Bins in a global step."""
        return self.micro_batch_size * self.micro_batches

    @property
    def steps_per_epoch(self) -> int:
        """Global steps in a pass over the data; the last one may be smaller."""
        bins = len(self.lengths if self.capacity is None else self._packed)
        return math.ceil(bins / self.batch_size)

    def step(self, step: int) -> list[list[int]]:
        """Row indices of each of the step's micro-batches (some empty, so that workers have as many)."""
        bins = self._bins_of(*divmod(step, self.steps_per_epoch))
        if self.budget is not None:
            return self.budget.parts([row for bin_ in bins for row in bin_])
        return [
            sorted(part) for part in balance(bins, self.lengths, self.micro_batches, self.micro_batch_size)
        ]

    def _bins_of(self, epoch: int, index: int) -> list[Bin]:
        """The bins of an epoch's step."""
        return self._epoch_bins(epoch)[index * self.batch_size : (index + 1) * self.batch_size]

    def _epoch_bins(self, epoch: int) -> list[Bin]:
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = (epoch, self._arrange(epoch))
        return self._epoch[1]

    def _arrange(self, epoch: int) -> list[Bin]:
        rng = np.random.default_rng([self.seed, epoch])
        rows = rng.permutation(len(self.lengths)).tolist()
        if self.capacity is not None:
            bins = self._packed_bins(rows)
            return [bins[index] for index in rng.permutation(len(bins))]
        if self.group_by_length:
            rows = self._grouped(rows, rng)
        return [[row] for row in rows]

    def _grouped(self, rows: list[int], rng: np.random.Generator) -> list[int]:
        """Sort by length inside large groups, then shuffle the batches cut from them."""
        batches: list[list[int]] = []
        for group in _cut_into(rows, self.batch_size * _GROUPS_PER_SORT):
            batches += _cut_into(sorted(group, key=lambda row: -self.lengths[row]), self.batch_size)
        whole = [batch for batch in batches if len(batch) == self.batch_size]
        partial = [row for batch in batches if len(batch) < self.batch_size for row in batch]
        return [row for index in rng.permutation(len(whole)) for row in whole[index]] + partial

    @cached_property
    def _packed(self) -> list[Bin]:
        """Bins whose lengths every epoch keeps, by the seed alone."""
        assert self.capacity is not None
        order = np.random.default_rng(self.seed).permutation(len(self.lengths)).tolist()
        return pack(order, self.lengths, self.capacity)

    def _packed_bins(self, rows: list[int]) -> list[Bin]:
        """Bins of the same lengths in every epoch, so that epochs have as many steps; rows change places."""
        by_length: dict[int, list[int]] = {}
        for row in rows:
            by_length.setdefault(self.lengths[row], []).append(row)
        return [[by_length[self.lengths[row]].pop() for row in bin_] for bin_ in self._packed]


def _cut_into(rows: Sequence[int], size: int) -> list[list[int]]:
    return [list(rows[start : start + size]) for start in range(0, len(rows), size)]


def balance(bins: Sequence[Bin], lengths: Sequence[int], parts: int, room: int) -> list[list[int]]:
    """Spread bins over `parts` micro-batches of at most `room` bins, tokens as even as greedy gets."""
    filled: list[list[int]] = [[] for _ in range(parts)]
    tokens, taken = [0] * parts, [0] * parts
    weigh = [sum(lengths[row] for row in bin_) for bin_ in bins]
    for index in sorted(range(len(bins)), key=lambda index: -weigh[index]):
        part = min((p for p in range(parts) if taken[p] < room), key=lambda p: (tokens[p], p))
        filled[part] += bins[index]
        tokens[part] += weigh[index]
        taken[part] += 1
    return filled
