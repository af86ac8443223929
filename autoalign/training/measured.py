"""Figures gathered while the loss is worked out, as means over the pairs of all ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from autoalign.training.world import World

REWARD_FIGURES = ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies")


class Measured:
    """Sums since they were last taken."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._pairs = 0

    def add(self, means: Mapping[str, Tensor], pairs: int) -> None:
        """Add the means over `pairs` pairs."""
        for name, value in means.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value) * pairs
        self._pairs += pairs

    def take_means(self, names: Sequence[str], world: World) -> dict[str, float]:
        """Means over all ranks since the last call; empty when there were no pairs. All take part."""
        totals = world.sum(float(self._pairs), *(self._sums.get(name, 0.0) for name in names))
        self._sums, self._pairs = {}, 0
        if not totals[0]:
            return {}
        return {name: total / totals[0] for name, total in zip(names, totals[1:], strict=True)}
