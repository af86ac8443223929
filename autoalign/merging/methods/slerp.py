"""Spherical linear interpolation of two models (Shoemake, SIGGRAPH 1985), tensor by tensor.

cos Omega = <a, b> / (|a| |b|)
theta = sin((1-t) Omega) / sin Omega * a + sin(t Omega) / sin Omega * b

Where a and b are (anti)parallel or one of them is zero, no arc is defined: (1-t) a + t b.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from autoalign.errors import ConfigError
from autoalign.merging.stack import Stack, Stretches

MODELS = 2
TAKES_WEIGHTS = False
_PARALLEL = 1e-4  # sin Omega below which the arc and the chord agree to 1e-8


@dataclass(frozen=True)
class Options:
    """What may be set.

    Args:
        t: how far from the first model (0) to the second (1).
    """

    t: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.t <= 1:
            raise ConfigError(f"t is {self.t!r}; expected 0 (the first model) to 1 (the second)")


class Shares(NamedTuple):
    """What the first and the second model are multiplied with."""

    first: float
    second: float


def measure(stretches: Stretches, options: Options) -> Shares:
    """The two factors, from the angle between the whole tensors."""
    dot = first = second = 0.0
    for stack in stretches():
        a, b = stack.models
        dot, first, second = dot + float(a @ b), first + float(a @ a), second + float(b @ b)
    length = math.sqrt(first) * math.sqrt(second)
    omega = math.acos(max(-1.0, min(1.0, dot / length))) if length else 0.0
    sine = math.sin(omega)
    if sine < _PARALLEL:
        return Shares(1 - options.t, options.t)
    return Shares(math.sin((1 - options.t) * omega) / sine, math.sin(options.t * omega) / sine)


def merge(stack: Stack, options: Options, shares: Shares) -> Tensor:
    """(n,) merged elements."""
    a, b = stack.models
    return shares.first * a + shares.second * b
