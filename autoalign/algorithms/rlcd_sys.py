"""RLCD with the contrast in the system message (after arXiv:2307.12950).

As `rlcd`, but the principle and its opposite stand in the system message, where chat models have
learned to take orders from: the question stays as the user wrote it. Chosen is the answer under the
principle, rejected the one under its opposite, and the pair is trained on the prompt as it came, so
that the policy keeps the principle without being told.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from autoalign.algorithms._contrast import Contrast, contrasted, facts_of, opposite_of
from autoalign.algorithms._job import Job, Prompt
from autoalign.algorithms._made import Made

MAKES = "pairs"


@dataclass(frozen=True)
class Options:
    """What may be set.

    Attributes:
        temperature: of both answers; the paper's is 1.
        opposites: what the negative side is told, one for each principle in the same order. None: to
            break the principle, which small models do not understand.
    """

    temperature: float = 1.0
    opposites: tuple[str, ...] = ()


def run(job: Job, options: Options) -> Iterator[Made]:
    """A pair for each prompt; one of the principles is drawn for each."""

    def contrast(prompt: Prompt) -> Contrast:
        principle = job.principle(prompt.id)
        opposite = opposite_of(principle, job, options.opposites)
        follows, breaks = (
            prompt.under(job.texts.render("system", principle=principle, opposite=opposite, side=side))
            for side in ("positive", "negative")
        )
        return Contrast(follows, breaks, facts_of(principle, opposite))

    yield from contrasted(job, contrast, options.temperature)
