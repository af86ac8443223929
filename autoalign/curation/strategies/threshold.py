"""Good answers against bad ones: scores from the threshold on against those below.

Iterative RPO pairs right and wrong solutions like this (arXiv:2404.19733).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from autoalign.curation.candidates import Candidate, Choice, Rules, limited


def choose(candidates: Sequence[Candidate], rules: Rules) -> Choice:
    """Every pair once, in an order in which a limit repeats each answer as seldom as can be.

    Both sides go round side by side, the k-th good answer with the k-th bad one. After lcm(good, bad) pairs
    they would meet again: there the bad side takes one step more.
    """
    good = [candidate for candidate in candidates if candidate.score >= rules.threshold]
    bad = [candidate for candidate in candidates if candidate.score < rules.threshold]
    if not good or not bad:
        side = "at or above" if not good else "below"
        return Choice([], f"no answer {side} the threshold {rules.threshold:g}")
    turn = math.lcm(len(good), len(bad))
    pairs = [
        (good[place % len(good)], bad[(place + place // turn) % len(bad)])
        for place in range(len(good) * len(bad))
    ]
    allowed = [pair for pair in pairs if rules.allow(*pair)]
    if not allowed:
        return Choice([], f"no two scores differ by {rules.min_margin:g}")
    return Choice(limited(allowed, rules.max_pairs))
