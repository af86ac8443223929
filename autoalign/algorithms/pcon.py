"""Pairs by contrast of models: a strong model's answer against a weak one's.

Contrastive post-training (arXiv:2310.02263, section 3.2) takes the answer of the better model as chosen
and the worse model's as rejected, with no judge; ALMoST (arXiv:2305.13735, section 2.1) does the same
with model sizes, and drops pairs that its heuristics distrust. Models of the same family far apart give
easy pairs, close ones hard pairs; the paper's curriculum goes from easy to hard, which are two rounds
with another `strong` or `weak` here. `weak` may be the policy itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from autoalign.algorithms._job import Job
from autoalign.algorithms._made import Dropped, Made, Pair
from autoalign.synthesis import Ask

MAKES = "pairs"
REASON = "chosen is the strong model's answer, rejected the weak one's"


@dataclass(frozen=True)
class Options:
    """What may be set; `chosen_by`, `rejected_by`: the models' roles."""

    chosen_by: str = "strong"
    rejected_by: str = "weak"
    temperature: float = 0.7


def run(job: Job, options: Options) -> Iterator[Made]:
    """A pair for each prompt; none where an answer failed or both are the same."""
    roles = (options.chosen_by, options.rejected_by)
    for batch in job.batches():
        # One model after the other: they may share a machine.
        strong, weak = (
            job.generate(
                [Ask(f"{prompt.id}/{side}", prompt.messages, role, options.temperature) for prompt in batch]
            )
            for side, role in zip(("chosen", "rejected"), roles, strict=True)
        )
        for prompt, better, worse in zip(batch, strong, weak, strict=True):
            problem = better.problem or worse.problem
            if problem is not None:
                yield Dropped(prompt.id, prompt.id, f"answer: {problem}")
            elif better.text == worse.text:
                yield Dropped(prompt.id, prompt.id, "both answers are the same")
            else:
                facts = {"chosen_by": roles[0], "rejected_by": roles[1]}
                yield Pair(prompt.id, prompt.id, prompt.messages, better.text, worse.text, REASON, facts)
