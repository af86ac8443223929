"""The best answer against the worst: one pair a prompt, as in best-of-n DPO (arXiv:2310.16944)."""

from __future__ import annotations

from collections.abc import Sequence

from autoalign.curation.candidates import Candidate, Choice, Rules, too_close


def choose(candidates: Sequence[Candidate], rules: Rules) -> Choice:
    """Of equal scores the first answer counts."""
    best = max(candidates, key=lambda candidate: candidate.score)
    worst = min(candidates, key=lambda candidate: candidate.score)
    if not rules.allow(best, worst):
        return Choice([], too_close(candidates, rules))
    return Choice([(best, worst)])
