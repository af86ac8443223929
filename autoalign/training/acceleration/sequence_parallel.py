"""Sequence parallelism: N ranks share each row, every one of them a stretch of its tokens.

DeepSpeed Ulysses (arXiv:2309.14509; for transformers models ALST, arXiv:2506.13996): linear layers,
norms and the loss see a rank's own tokens; attention sees whole rows, for a part of the heads
(ulysses.py). What a row is, its positions and its answers stay those of the whole batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from autoalign.errors import ConfigError

if TYPE_CHECKING:
    from autoalign.training.batches import Batch
    from autoalign.training.world import World


@dataclass(frozen=True)
class Share:
    """What a rank holds of a batch.

    Attributes:
        process_group: the ranks that share it, in the order of their stretches.
        size: how many they are.
        answers: (here,) which of the batch's supervised tokens are predicted from this stretch.
        supervised: the batch's supervised tokens, over all ranks.
    """

    process_group: Any
    size: int
    answers: Tensor
    supervised: int


@dataclass(frozen=True)
class SequenceParallel:
    """A rank's place: `rank` of the `size` that share rows, in replica `replica` of `replicas`."""

    rank: int = 0
    size: int = 1
    replica: int = 0
    replicas: int = 1
    process_group: Any = None

    def share(self, batch: Batch) -> Batch:
        """This rank's stretch of a padding-free batch; the batch itself where rows are not shared."""
        if self.size == 1:
            return batch
        batch = _lengthen(batch, -batch.input_ids.shape[1] % self.size)
        length = batch.input_ids.shape[1] // self.size
        stretch = slice(self.rank * length, (self.rank + 1) * length)
        here = (batch.predict_from >= stretch.start) & (batch.predict_from < stretch.stop)
        return replace(
            batch,
            input_ids=batch.input_ids[:, stretch],
            position_ids=batch.position_ids[:, stretch],
            predict_from=batch.predict_from[here] - stretch.start,
            targets=batch.targets[here],
            share=Share(self.process_group, self.size, here.nonzero().flatten(), len(here)),
        )


def replicas_of(world_size: int, size: int) -> int:
    """How many groups of `size` ranks there are.

    Raises:
        ConfigError: `size` does not divide the number of ranks.
    """
    if world_size % size:
        raise ConfigError(
            f"'sequence_parallel_size' {size} does not divide the {world_size} process(es) of this job"
        )
    return world_size // size


def join(size: int, world: World) -> SequenceParallel:
    """This rank's place when each `size` ranks in a row share their rows. All ranks take part.

    Raises:
        ConfigError: `size` does not divide the number of ranks.
    """
    replicas = replicas_of(world.size, size)
    replica, rank = divmod(world.rank, size)
    if size == 1:
        return SequenceParallel(replica=replica, replicas=replicas)
    # Every rank has to make every group.
    groups = [dist.new_group(range(first, first + size)) for first in range(0, world.size, size)]
    return SequenceParallel(rank, size, replica, replicas, groups[replica])


def whole_answers(values: Tensor, batch: Batch) -> Tensor:
    """One value for each supervised token of the whole batch, the same on all ranks that share it.

    Args:
        values: (here,) of this rank's tokens.

    Returns:
        (supervised,), differentiable. What is computed of it is computed on each rank: count it
        once by `of_this_rank`.
    """
    if batch.share is None:
        return values
    empty = values.new_zeros(batch.share.supervised)
    spread = empty.index_add(0, batch.share.answers.to(values.device), values)
    whole: Tensor = _SumOverRanks.apply(spread, batch.share.process_group)  # type: ignore[no-untyped-call]
    return whole


def of_this_rank(loss: Tensor, batch: Batch) -> Tensor:
    """A loss that all sharing ranks worked out alike, as this rank's part of their sum."""
    return loss if batch.share is None else loss / batch.share.size


class _SumOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, process_group: Any) -> Tensor:
        ctx.process_group = process_group
        total = value.clone()
        dist.all_reduce(total, group=process_group)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        total = grad_outputs[0].clone()
        dist.all_reduce(total, group=ctx.process_group)
        return total, None


def _lengthen(batch: Batch, missing: int) -> Batch:
    """The batch with a row of `missing` tokens after the others, of which nothing is learned."""
    if not missing:
        return batch
    assert batch.row_lengths is not None
    ids, positions = batch.input_ids, batch.position_ids
    return replace(
        batch,
        input_ids=torch.cat([ids, ids[:, :1].expand(-1, missing)], 1),
        position_ids=torch.cat([positions, torch.arange(missing, device=positions.device)[None]], 1),
        row_lengths=(*batch.row_lengths, missing),
        shared_lengths=None if batch.shared_lengths is None else (*batch.shared_lengths, 0),
    )
