"""Pairs drawn at random among those of different score; one a prompt unless `max_pairs` says more."""

from __future__ import annotations

import random
from collections.abc import Sequence

from autoalign.curation.candidates import Candidate, Choice, Rules, ordered, too_close


def choose(candidates: Sequence[Candidate], rules: Rules) -> Choice:
    """The seed decides, for each prompt by itself."""
    pairs = ordered(candidates, rules)
    draw = random.Random(rules.seed)  # noqa: S311 (no secret)
    drawn = draw.sample(pairs, min(len(pairs), rules.max_pairs or 1))
    return Choice(drawn, "" if pairs else too_close(candidates, rules))
