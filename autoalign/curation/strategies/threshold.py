"""Good answers against bad ones: scores from the threshold on against those below.

Iterative RPO pairs right and wrong solutions like this (arXiv:2404.19733).
"""

from __future__ import annotations

from collections.abc import Sequence

from autoalign.curation.candidates import Candidate, Choice, Rules, limited


def choose(candidates: Sequence[Candidate], rules: Rules) -> Choice:
    """In rounds, so that a limit repeats each answer as little as can be: i-th good, (i + round)-th bad."""
    good = [candidate for candidate in candidates if candidate.score >= rules.threshold]
    bad = [candidate for candidate in candidates if candidate.score < rules.threshold]
    if not good or not bad:
        side = "at or above" if not good else "below"
        return Choice([], f"no answer {side} the threshold {rules.threshold:g}")
    pairs = [
        (good[index % len(good)], bad[(index + step) % len(bad)])
        for step in range(len(bad))
        for index in range(len(good))
    ]
    allowed = [pair for pair in pairs if rules.allow(*pair)]
    if not allowed:
        return Choice([], f"no two scores differ by {rules.min_margin:g}")
    return Choice(limited(allowed, rules.max_pairs))
