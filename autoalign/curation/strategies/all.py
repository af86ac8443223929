"""Every two answers of different score, as InstructGPT's comparisons of K answers (arXiv:2203.02155)."""

from __future__ import annotations

from collections.abc import Sequence

from autoalign.curation.candidates import Candidate, Choice, Rules, limited, ordered, too_close


def choose(candidates: Sequence[Candidate], rules: Rules) -> Choice:
    """In the answers' order."""
    pairs = ordered(candidates, rules)
    return Choice(limited(pairs, rules.max_pairs), "" if pairs else too_close(candidates, rules))
