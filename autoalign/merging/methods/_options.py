"""What options of several methods may be."""

from __future__ import annotations

import math

from autoalign.errors import ConfigError


def require_density(value: float) -> None:
    """Raises: ConfigError unless 0 < density <= 1."""
    if not 0 < value <= 1:
        raise ConfigError(f"density is {value!r}; expected above 0 and at most 1, the share that is kept")


def require_finite(name: str, value: float) -> None:
    """Raises: ConfigError when `value` is infinite or no number."""
    if not math.isfinite(value):
        raise ConfigError(f"{name} is {value!r}; expected a finite number")
