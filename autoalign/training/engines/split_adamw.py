"""AdamW whose float32 master weights take two bytes each beside the model's bfloat16 ones.

A bfloat16 is the upper half of a float32. The model's weight is the master's, rounded, and what the
rounding took away fits into 16 bits: master = weight * 2^16 + rest, as integers (Split-SGD,
arXiv:2005.04680). Nothing is lost, and the masters need no copy of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from autoalign.losses.summing import parts
from autoalign.training.engines.base import MASTER, MOMENT, VARIANCE

_CPU_NUMEL, _GPU_NUMEL = 1 << 18, 8 << 20
"""Weights whose masters and gradients are float32 at a time: on a CPU what its cache holds."""
_HALF, _WHOLE = 1 << 15, 1 << 16


def split(master: Tensor, weight: Tensor, rest: Tensor) -> None:
    """Write a float32 `master` into a bfloat16 `weight` and an int16 `rest` of its shape.

    `weight` is `master` rounded to the nearest; of two as near, the one farther from zero. Infinities come
    back, NaN may not: masters have none, as the loop refuses gradients that are not finite.
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
    def update(self, gradients: dict[nn.Parameter, Tensor], lr: float, scale: float) -> None:
        """One step of each parameter, by `scale` times its gradient.

        `gradients` is emptied, each freed as soon as it is used; float32 ones are used up.
        """
        whole: dict[tuple[float, int], list[nn.Parameter]] = {}
        for parameter in list(gradients):
            held = self._held[parameter]
            if held.rest is None:
                whole.setdefault((held.weight_decay, held.steps), []).append(parameter)
            else:
                self._update_halves(parameter, held, held.rest, gradients.pop(parameter), lr, scale)
        for parameters in whole.values():
            each = [
                (parameter, gradients.pop(parameter).mul_(scale), *_moments(parameter, self._held[parameter]))
                for parameter in parameters
            ]
            self._step(each, self._held[parameters[0]], lr)
            for parameter in parameters:
                self._held[parameter].steps += 1

    def _update_halves(
        self, parameter: nn.Parameter, held: _Held, rest: Tensor, gradient: Tensor, lr: float, scale: float
    ) -> None:
        tensors = [parameter, rest, gradient, *_moments(parameter, held)]
        for weight, left, grad, moment, variance in _parts(tensors):
            master = joined(weight, left)
            self._step([(master, grad.float().mul_(scale), moment, variance)], held, lr)
            split(master, weight, left)
        held.steps += 1

    def _step(self, each: Sequence[tuple[Tensor, Tensor, Tensor, Tensor]], held: _Held, lr: float) -> None:
        """A step of masters by gradients, moments and variances, with the decay and steps of `held`."""
        masters, gradients, moments, variances = map(list, zip(*each, strict=True))
        done = [
            torch.full((), float(held.steps), dtype=torch.float32, device=master.device) for master in masters
        ]
        adamw(
            masters,
            gradients,
            moments,
            variances,
            [],
            done,
            fused=True,
            amsgrad=False,
            beta1=self._betas[0],
            beta2=self._betas[1],
            lr=lr,
            weight_decay=held.weight_decay,
            eps=self._epsilon,
            maximize=False,
        )

    @torch.no_grad()
    def state(self, parameter: nn.Parameter) -> Iterator[tuple[str, Tensor]]:
        """Master, moment and variance by their names, whole and float32."""
        held = self._held[parameter]
        yield MASTER, parameter.detach() if held.rest is None else _whole(parameter, held.rest)
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
            for whole, weight, rest in _parts([master, parameter, held.rest]):
                split(whole, weight, rest)
        held.moment, held.variance = (state[name].to(parameter.device) for name in (MOMENT, VARIANCE))
        held.steps = steps


def _rest_of(parameter: nn.Parameter) -> Tensor | None:
    if parameter.dtype == torch.float32:
        return None
    if parameter.dtype != torch.bfloat16:
        raise TypeError(f"weights are trained in float32 or bfloat16, not {parameter.dtype}")
    return torch.zeros_like(parameter, dtype=torch.int16)


def _moments(parameter: nn.Parameter, held: _Held) -> tuple[Tensor, Tensor]:
    if held.moment is None or held.variance is None:
        held.moment, held.variance = (
            torch.zeros_like(parameter, dtype=torch.float32) for _ in (MOMENT, VARIANCE)
        )
    return held.moment, held.variance


def _whole(parameter: nn.Parameter, rest: Tensor) -> Tensor:
    master = torch.empty_like(parameter, dtype=torch.float32)
    for whole, weight, left in _parts([master, parameter, rest]):
        whole.copy_(joined(weight, left))
    return master


def _parts(tensors: Sequence[Tensor]) -> Iterator[tuple[Tensor, ...]]:
    """Views of the same rows of each, few enough rows to be worked on in float32."""
    if not all(tensor.is_contiguous() for tensor in tensors):
        # The fused kernel counts on numbers side by side, in whatever order; rows of these are not.
        return iter([tuple(tensors)])
    return parts(tensors, _GPU_NUMEL if tensors[0].is_cuda else _CPU_NUMEL)
