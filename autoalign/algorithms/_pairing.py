"""Pairs out of scored answers, by the strategies of `autoalign/curation/strategies`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from autoalign import plugins
from autoalign.algorithms._drawing import Text
from autoalign.algorithms._job import Prompt
from autoalign.algorithms._made import Dropped, Made, Pair
from autoalign.curation.candidates import Candidate, Rules, Strategy
from autoalign.records import Message

STRATEGIES = "autoalign.curation.strategies"


def scored(text: Text, score: float) -> Candidate:
    """An answer with its score."""
    return Candidate(text.key, (Message("assistant", text.text),), score)


def pair_up(
    prompt: Prompt,
    candidates: Sequence[Candidate],
    reason: str,
    strategy: str = "best_worst",
    rules: Rules | None = None,
) -> Iterator[Made]:
    """The strategy's pairs of one prompt's answers, or why there are none."""
    if len(candidates) < 2:
        yield Dropped(prompt.id, prompt.id, "fewer than two scored answers")
        return
    plugin = cast(Strategy, plugins.load(STRATEGIES, strategy))
    choice = plugin.choose(candidates, rules or Rules())
    if not choice.pairs:
        yield Dropped(prompt.id, prompt.id, choice.reason)
    for index, (chosen, rejected) in enumerate(choice.pairs):
        facts = {
            "chosen_id": chosen.id,
            "rejected_id": rejected.id,
            "score_chosen": chosen.score,
            "score_rejected": rejected.score,
        }
        name = f"{prompt.id}-{index}" if len(choice.pairs) > 1 else prompt.id
        yield Pair(name, prompt.id, prompt.messages, chosen.text, rejected.text, reason, facts)
