"""All pairs whose scores are far enough apart (`min_margin`), the widest apart first."""

from __future__ import annotations

from collections.abc import Sequence

from autoalign.curation.candidates import Candidate, Choice, Rules, limited, ordered, too_close


def choose(candidates: Sequence[Candidate], rules: Rules) -> Choice:
    """Pairs of the same margin keep the answers' order."""
    pairs = sorted(ordered(candidates, rules), key=lambda pair: pair[1].score - pair[0].score)
    return Choice(limited(pairs, rules.max_pairs), "" if pairs else too_close(candidates, rules))
