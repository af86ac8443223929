"""The merged weights, a few megabytes at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from autoalign.errors import ModelError
from autoalign.merging.methods import Method
from autoalign.merging.source import Source
from autoalign.merging.stack import Stack
from autoalign.merging.tensor_file import TensorSpec

STRETCH = 1 << 17  # elements at once: 1 MB of float64 a model stays in the cache; 2^20 took twice as long


@dataclass(frozen=True)
class Merger:
    """Models that agree, and the method that combines them."""

    method: Method
    models: Sequence[Source]
    weights: tuple[float, ...]
    base: Source | None
    stretch: int = STRETCH

    def pieces(self, name: str, spec: TensorSpec) -> Iterator[Tensor]:
        """The merged tensor, flat and in the type of `spec`, piece by piece.

        The sums are made in float64, rounded to float32, and once from there to the final type.

        Raises:
            ModelError: a value is infinite or no number, or whole numbers differ between models.
        """
        if not spec.dtype.is_floating_point:
            yield from self._same(name, spec)
            return
        if spec.size == 0:
            return
        for merged in self.method.merge(lambda: self._stacks(name, spec.size)):
            piece = merged if spec.dtype == torch.float64 else merged.float().to(spec.dtype)
            if not torch.isfinite(piece).all():
                raise ModelError(self._not_finite(name, spec))
            yield piece

    def _stacks(self, name: str, size: int) -> Iterator[Stack]:
        for start in range(0, size, self.stretch):
            stop = min(size, start + self.stretch)
            yield Stack(
                name,
                start,
                size,
                tuple(model.read(name, start, stop).double() for model in self.models),
                self.weights,
                self.base.read(name, start, stop).double() if self.base and self.method.needs_base else None,
            )

    def _same(self, name: str, spec: TensorSpec) -> Iterator[Tensor]:
        first, *others = self.models
        for start in range(0, spec.size, self.stretch):
            stop = min(spec.size, start + self.stretch)
            piece = first.read(name, start, stop)
            for other in others:
                if not torch.equal(piece, other.read(name, start, stop)):
                    raise ModelError(
                        f"tensor {name} holds whole numbers, and they differ between {first.label} "
                        f"and {other.label}"
                    )
            yield piece

    def _not_finite(self, name: str, spec: TensorSpec) -> str:
        for source in [*self.models, *([self.base] if self.base else [])]:
            for start in range(0, spec.size, self.stretch):
                values = source.read(name, start, min(spec.size, start + self.stretch))
                if not torch.isfinite(values).all():
                    return f"{source.label}: tensor {name} holds infinite values or NaN; the model is damaged"
        return (
            f"tensor {name}: a merged value is too large for {spec.dtype}; give --dtype bfloat16 or float32"
        )
