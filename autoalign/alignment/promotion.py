"""Is a round's model better than the one before it? The rule, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from autoalign.config.align import AlignConfig


class Decision(NamedTuple):
    """Whether the model is promoted, and why."""

    promoted: bool
    reason: str


def decide(
    config: AlignConfig, gain: Mapping[str, float], forgetting: Mapping[str, float] | None
) -> Decision:
    """By the gain over the policy (`value`, `low`, `high`) and the change on the fixed benchmark."""
    shown = f"gain {gain['value']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]"
    limit = config.max_forgetting
    if limit is not None and forgetting is not None and forgetting["high"] < -limit:
        return Decision(False, f"{shown}, but the benchmark fell by {-forgetting['value']:.3f}")
    rules = {
        "significant": (gain["low"] > 0, "the interval lies above 0", "the interval does not lie above 0"),
        "better": (gain["value"] > 0, "it is above 0", "it is not above 0"),
        "not_worse": (gain["high"] >= 0, "the interval reaches 0", "the interval lies below 0"),
        "always": (True, "every round is promoted", ""),
    }
    holds, yes, no = rules[config.promote_when]
    return Decision(holds, f"{shown}: {yes if holds else no}")
