"""Is a round's model better than the one before it? The rule, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from autoalign.config.align import AlignConfig

_MOST_UNREAD = 0.5  # share of comparisons without a verdict, beyond which the others prove nothing
_LEAST_COMPARED = 0.5  # share of the held-out prompts, below which the gain is that of a few
_LEVEL = 0.05  # of the exact test


class Decision(NamedTuple):
    """Whether the model is promoted, and why."""

    promoted: bool
    reason: str


def decide(config: AlignConfig, figures: Mapping[str, Any], number: int = 1) -> Decision:
    """By the figures of a round's evaluation.

    Args:
        figures: `gain` over the policy (`value`, `low`, `high`), and the `p_value` of "no difference";
            `compared`, how many of the `held_out` prompts the gain is of; `forgetting`, the change on the
            fixed benchmark, as `gain`, and `benchmark_checked` (how many of its answers could be);
            `judge_asked` and `judge_unread`, comparisons.
        number: the round, from 1.
    """
    gain, forgetting, rule = figures["gain"], figures.get("forgetting"), config.promotion(number)
    shown = f"gain {gain['value']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]"
    limit = config.max_forgetting
    if limit is not None and forgetting is not None and forgetting["high"] < -limit:
        return Decision(False, f"{shown}, but the benchmark fell by {-forgetting['value']:.3f}")
    if limit is not None and figures.get("benchmark_checked") == 0:
        return Decision(False, f"{shown}, but no answer to the benchmark could be checked")
    asked, unread = figures.get("judge_asked", 0), figures.get("judge_unread", 0)
    if unread > _MOST_UNREAD * asked and rule != "always":
        return Decision(False, f"{shown}, but {unread} of the judge's {asked} comparisons could not be read")
    held_out = figures.get("held_out", 0)
    compared = figures.get("compared", held_out)
    if compared < _LEAST_COMPARED * held_out and rule != "always":
        why = f"but only {compared} of {held_out} held-out prompts could be compared"
        return Decision(False, f"{shown}, {why}")
    rules = {
        "significant": _significant(gain, figures.get("p_value", 1.0)),
        "better": (gain["value"] > 0, "it is above 0", "it is not above 0"),
        "not_worse": (gain["high"] >= 0, "the interval reaches 0", "the interval lies below 0"),
        "always": (True, "every round is promoted", ""),
    }
    holds, yes, no = rules[rule]
    return Decision(holds, f"{shown}: {yes if holds else no}")


def _significant(gain: Mapping[str, float], p_value: float) -> tuple[bool, str, str]:
    """A bootstrap over few prompts is too narrow (over one it has no width): an exact test has to agree."""
    above = gain["low"] > 0
    no = f"the exact test finds p = {p_value:.3f}" if above else "the interval does not lie above 0"
    return above and p_value < _LEVEL, f"the interval lies above 0, p = {p_value:.3f}", no
