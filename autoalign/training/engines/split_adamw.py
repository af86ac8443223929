"""AdamW whose float32 master weights take two bytes each beside the model's bfloat16 ones.

A bfloat16 is the upper half of a float32. The model's weight is the master's, rounded, and what the
rounding took away fits into 16 bits: master = weight * 2^16 + rest, as integers (arXiv:2005.04680,
section IV). Nothing is lost, and the masters need no copy of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from autoalign.training.engines.base import MASTER, MOMENT, VARIANCE

_CPU_NUMEL, _GPU_NUMEL = 1 << 18, 32 << 20
"""Weights whose masters and gradients are float32 at a time: on a CPU what its cache holds."""
_HALF, _WHOLE = 1 << 15, 1 << 16


def split(master: Tensor, weight: Tensor, rest: Tensor) -> None:
    """Write a float32 `master` into a bfloat16 `weight` and an int16 `rest` of its shape.

    `weight` is `master` rounded to the nearest; of two as near, the one farther from zero.
    """
    bits = master.view(torch.int32)
    rest.copy_(bits)
    weight.view(torch.int16).copy_((bits + _HALF).bitwise_right_shift_(16))


def joined(weight: Tensor, rest: Tensor) -> Tensor:
    """The float32 master that `split` took apart, bit by bit."""
    return torch.add(rest, weight.view(torch.int16).to(torch.int32), alpha=_WHOLE).view(torch.float32)


@dataclass
class _Held:
    """What the optimizer holds of one parameter."""

    weight_decay: float
    rest: Tensor | None
    """Of a bfloat16 weight; a float32 one is its own master."""
    moment: Tensor | None = None
    variance: Tensor | None = None
    steps: int = 0


class SplitAdamW:
    """AdamW (arXiv:1711.05101) on bfloat16 and float32 parameters, its state in float32.

    Args:
        groups: parameters and their weight decay, as for torch.optim.
    """

    def __init__(
        self, groups: Iterable[Mapping[str, Any]], betas: tuple[float, float], epsilon: float
    ) -> None:
        self._betas, self._epsilon = betas, epsilon
        self._held: dict[nn.Parameter, _Held] = {
            parameter: _Held(group["weight_decay"], _rest_of(parameter))
            for group in groups
            for parameter in group["params"]
        }

    @property
    def parameters(self) -> Iterable[nn.Parameter]:
        """All that are trained, group by group."""
        return self._held.keys()

    @torch.no_grad()
    def update(self, parameter: nn.Parameter, gradient: Tensor, lr: float, scale: float) -> None:
        """One step of one parameter, by `scale * gradient`. A float32 `gradient` is used up."""
        held = self._held[parameter]
        if held.moment is None or held.variance is None:
            held.moment, held.variance = (
                torch.zeros_like(parameter, dtype=torch.float32) for _ in (MOMENT, VARIANCE)
            )
        tensors = [parameter, gradient, held.moment, held.variance]
        for weight, grad, moment, variance, *rest in _parts([*tensors, *_known(held.rest)]):
            master = joined(weight, rest[0]) if rest else weight
            adamw(
                [master],
                [grad.float().mul_(scale)],
                [moment],
                [variance],
                [],
                [torch.full((), float(held.steps), dtype=torch.float32, device=weight.device)],
                fused=True,
                amsgrad=False,
                beta1=self._betas[0],
                beta2=self._betas[1],
                lr=lr,
                weight_decay=held.weight_decay,
                eps=self._epsilon,
                maximize=False,
            )
            if rest:
                split(master, weight, rest[0])
        held.steps += 1

    @torch.no_grad()
    def state(self, parameter: nn.Parameter) -> Iterator[tuple[str, Tensor]]:
        """Master, moment and variance by their names, whole and float32."""
        held = self._held[parameter]
        yield MASTER, parameter.detach() if held.rest is None else joined(parameter.detach(), held.rest)
        # There are none of a weight that never had a gradient, such as an unused vision tower's.
        for name, value in ((MOMENT, held.moment), (VARIANCE, held.variance)):
            yield name, torch.zeros_like(parameter, dtype=torch.float32) if value is None else value

    @torch.no_grad()
    def load(self, parameter: nn.Parameter, state: Mapping[str, Tensor], steps: int) -> None:
        """Take over what `state` gave after `steps` updates."""
        held, master = self._held[parameter], state[MASTER].to(parameter.device)
        if held.rest is None:
            parameter.copy_(master)
        else:
            split(master, parameter, held.rest)
        held.moment, held.variance = (state[name].to(parameter.device) for name in (MOMENT, VARIANCE))
        held.steps = steps


def _rest_of(parameter: nn.Parameter) -> Tensor | None:
    if parameter.dtype == torch.float32:
        return None
    if parameter.dtype != torch.bfloat16:
        raise TypeError(f"weights are trained in float32 or bfloat16, not {parameter.dtype}")
    return torch.zeros_like(parameter, dtype=torch.int16)


def _known(rest: Tensor | None) -> list[Tensor]:
    return [] if rest is None else [rest]


def _parts(tensors: Sequence[Tensor]) -> Iterator[tuple[Tensor, ...]]:
    """Views of the same rows of each, few enough rows to be worked on in float32."""
    flat = [torch.atleast_1d(tensor) for tensor in tensors]
    size = _GPU_NUMEL if flat[0].is_cuda else _CPU_NUMEL
    rows = max(1, size * len(flat[0]) // max(1, flat[0].numel()))
    return zip(*(tensor.split(rows) for tensor in flat), strict=True)
