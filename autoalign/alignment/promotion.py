"""Is a round's model better than the one before it? The rule, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from autoalign.config.align import AlignConfig

_MOST_UNREAD = 0.5  # share of comparisons without a verdict, beyond which the others prove nothing


class Decision(NamedTuple):
    """Whether the model is promoted, and why."""

    promoted: bool
    reason: str


def decide(config: AlignConfig, figures: Mapping[str, Any]) -> Decision:
    """By an evaluation's figures.

    Args:
        figures: `gain` over the policy (`value`, `low`, `high`); `forgetting`, the change on the fixed
            benchmark, likewise, and `benchmark_checked` (how many of its answers could be);
            `judge_asked` and `judge_unread`, comparisons.
    """
    gain, forgetting = figures["gain"], figures.get("forgetting")
    shown = f"gain {gain['value']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]"
    limit = config.max_forgetting
    if limit is not None and forgetting is not None and forgetting["high"] < -limit:
        return Decision(False, f"{shown}, but the benchmark fell by {-forgetting['value']:.3f}")
    if limit is not None and figures.get("benchmark_checked") == 0:
        return Decision(False, f"{shown}, but no answer to the benchmark could be checked")
    asked, unread = figures.get("judge_asked", 0), figures.get("judge_unread", 0)
    if unread > _MOST_UNREAD * asked and config.promote_when != "always":
        return Decision(False, f"{shown}, but {unread} of the judge's {asked} comparisons could not be read")
    rules = {
        "significant": (gain["low"] > 0, "the interval lies above 0", "the interval does not lie above 0"),
        "better": (gain["value"] > 0, "it is above 0", "it is not above 0"),
        "not_worse": (gain["high"] >= 0, "the interval reaches 0", "the interval lies below 0"),
        "always": (True, "every round is promoted", ""),
    }
    holds, yes, no = rules[config.promote_when]
    return Decision(holds, f"{shown}: {yes if holds else no}")
