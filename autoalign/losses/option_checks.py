"""What the options of a loss may be."""

from __future__ import annotations

import math

from autoalign.errors import ConfigError


def require(holds: bool, name: str, value: object, expected: str) -> None:
    """Raises: ConfigError, naming the option, when the condition does not hold."""
    if not holds:
        raise ConfigError(f"{name} is {value!r}; expected {expected}")


def require_positive(name: str, value: float) -> None:
    """Raises: ConfigError when `value` is zero, negative, or no finite number."""
    require(value > 0 and math.isfinite(value), name, value, "a number above 0")


def require_smoothing(value: float) -> None:
    """Raises: ConfigError unless 0 <= label_smoothing <= 0.5; 0.5 says that labels tell nothing."""
    require(0 <= value <= 0.5, "label_smoothing", value, "0 to 0.5, the share of flipped labels")
