"""What goes wrong when a model learns from itself, each as a figure that is measured every round.

| guard | figure | healthy |
|---|---|---|
| length drift | mean words of held-out answers, over the first model's | near 1 |
| diversity | distinct-2 of the held-out answers, over the first model's | not far below 1 |
| judge bias | share of verdicts for what stands first; share of wins by the longer answer | near 0.5 |
| reward hacking | gain by the judge that training listens to, less the gain by a held-out judge | near 0 |
| forgetting | gain on the fixed benchmark against the first model, with its interval | 0 or above |
| contamination | training rows that share 13 words with a held-out or benchmark prompt, or ask the same | 0 |

The judge of training answers is watched as well: its verdicts on what it is asked in both orders, and how
often the chosen answer of a pair is the longer one. What a job does not measure is shown as such, with the
key that would measure it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from autoalign.diversity import distinct_n

_LENGTH, _DIVERSITY, _BIAS, _HACKING, _UNREAD = (0.5, 2.0), 0.7, (0.3, 0.7), 0.1, 0.2


def texts(first: Sequence[str], now: Sequence[str]) -> dict[str, Any]:
    """Length drift and diversity of answers to the same prompts."""
    words_first, words_now = (fmean(len(text.split()) for text in each) for each in (first, now))
    distinct_first, distinct_now = distinct_n(first, 2), distinct_n(now, 2)
    return {
        "words": round(words_now, 2),
        "length_drift": round(words_now / words_first, 4) if words_first else None,
        "distinct_2": round(distinct_now, 4),
        "diversity": round(distinct_now / distinct_first, 4) if distinct_first else None,
    }


_SHOWN = (
    ("length_drift", "length drift", ".2f"),
    ("diversity", "diversity", ".2f"),
    ("judge_first", "verdicts for what stands first", ".0%"),
    ("judge_longer", "for the longer answer", ".0%"),
    ("judge_unread", "unread", "d"),
    ("data_judge_first", "verdicts on training answers for what stands first", ".0%"),
    ("chosen_longer", "chosen is longer in", ".0%"),
    ("held_out_judge_first", "the held-out judge's for what stands first", ".0%"),
    ("held_out_judge_unread", "unread", "d"),
    ("reward_hacking", "reward hacking", "+.3f"),
    ("contaminated", "contaminated rows", "d"),
)


# What a guard is measured by, and the key to set where none of it is there.
_MEASURED_BY = (
    ("length drift", ("length_drift",), "the first model's answers are empty"),
    ("diversity", ("diversity",), "the first model's answers are too short"),
    ("judge bias (position)", ("judge_first", "data_judge_first"), "metric: judge"),
    ("judge bias (length)", ("judge_longer", "chosen_longer"), "metric: judge"),
    ("reward hacking", ("reward_hacking", "held_out_judge"), "models: held_out_judge"),
    ("forgetting", ("forgetting",), "benchmark_path"),
    ("contamination", ("contaminated",), "this stage is from before it was counted"),
)


def shown(figures: Mapping[str, Any]) -> str:
    """All of a round's guards in a line; one that is not measured names the key that would measure it."""
    found = [
        f"{label} {figures[name]:{form}}" for name, label, form in _SHOWN if figures.get(name) is not None
    ]
    for name, label in (("held_out_judge", "held-out judge's gain"), ("forgetting", "benchmark's change")):
        if (one := figures.get(name)) is not None:
            found.append(f"{label} {one['value']:+.3f} [{one['low']:+.3f}, {one['high']:+.3f}]")
    return ", ".join([*found, *_not_measured(figures)])


def _not_measured(figures: Mapping[str, Any]) -> Iterator[str]:
    why = {}
    if figures.get("metric") == "judge":
        why["judge bias (position)"] = "no verdict names a winner"
        why["judge bias (length)"] = "no comparison has a winner"
    if "held_out_judge_unread" in figures:
        why["reward hacking"] = "none of the held-out judge's verdicts could be read"
    if "benchmark_checked" in figures:
        why["forgetting"] = "no answer to the benchmark could be checked"
    for label, names, key in _MEASURED_BY:
        if all(figures.get(name) is None for name in names):
            yield f"{label}: not measured ({why.get(label, key)})"


def warnings(figures: dict[str, Any]) -> list[str]:
    """Sentences on the figures that are out of the ordinary; nothing is stopped for them."""
    found = []
    drift, diversity = figures.get("length_drift"), figures.get("diversity")
    if drift is not None and not _LENGTH[0] <= drift <= _LENGTH[1]:
        found.append(f"length drift: answers have {drift:.2g} times the words of the first model's")
    if diversity is not None and diversity < _DIVERSITY:
        found.append(f"diversity: distinct-2 is {diversity:.2f} of the first model's")
    biases = (
        ("judge_first", "what stands first"),
        ("data_judge_first", "what stands first (on training answers)"),
        ("judge_longer", "the longer answer"),
        ("held_out_judge_first", "what stands first (the held-out judge)"),
    )
    for name, what in biases:
        bias = figures.get(name)
        if bias is not None and not _BIAS[0] <= bias <= _BIAS[1]:
            found.append(f"judge bias: {bias:.0%} of verdicts are for {what}")
    asked, unread = figures.get("judge_asked", 0), figures.get("judge_unread", 0)
    if unread > _UNREAD * asked:
        found.append(f"judge: {unread} of {asked} comparisons could not be read")
    if (figures.get("reward_hacking") or 0.0) > _HACKING:
        found.append(f"reward hacking: the held-out judge sees {figures['reward_hacking']:.3f} less gain")
    forgotten = figures.get("forgetting")
    if forgotten is not None and forgotten["high"] < 0:
        found.append(f"forgetting: the benchmark changed by {forgotten['value']:+.3f}")
    if figures.get("benchmark_checked") == 0:
        found.append("forgetting: no answer to the benchmark could be checked")
    if figures.get("contaminated"):
        found.append(f"contamination: {figures['contaminated']} training rows share text with the evaluation")
    return found
