"""What a merging method sees: the same stretch of the same tensor in every model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Stack:
    """Elements `start` to `start + n` of one tensor, laid out flat.

    Args:
        name: the tensor's name.
        start: where in the flat tensor this stretch begins.
        size: elements of the whole tensor.
        models: one (n,) float64 tensor a model.
        weights: one number a model.
        base: (n,) float64, the model that all were trained from; None where the method has no use for it.
    """

    name: str
    start: int
    size: int
    models: tuple[Tensor, ...]
    weights: tuple[float, ...]
    base: Tensor | None = None

    @property
    def deltas(self) -> list[Tensor]:
        """Task vectors: each model less the base, (n,) each."""
        assert self.base is not None
        return [model - self.base for model in self.models]

    def moved(self, delta: Tensor) -> Tensor:
        """The base with `delta` (n,) added."""
        assert self.base is not None
        return self.base + delta


# The stretches of one tensor in order; a method that looks first calls it more than once.
Stretches = Callable[[], Iterable[Stack]]
