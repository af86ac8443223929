"""State that a loss carries from one step to the next, passed in and out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class RunningMean:
    """Mean of every value seen.

    Args:
        total: sum of the values. Totals and counts add up: over several workers, sum each
            step's increments of both.
        count: how many there were.
    """

    total: Tensor | float = 0.0
    count: int = 0

    def seeing(self, values: Tensor) -> RunningMean:
        """The mean with `values` (any shape, detached here) taken in."""
        return RunningMean(self.total + values.detach().double().sum(), self.count + values.numel())

    @property
    def mean(self) -> Tensor | float:
        """A scalar; 0 before any value was seen."""
        return self.total / max(self.count, 1)


class Stateful(NamedTuple):
    """Losses (batch,) and the state for the next step."""

    losses: Tensor
    state: RunningMean
