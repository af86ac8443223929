"""Self-rewarding language models (arXiv:2401.10020, section 2).

The policy answers each prompt `candidates` times (4; temperature 0.7, top_p 0.9), and then judges its
own answers by an additive rubric of 0 to 5 points, `judgments` times each (3), whose mean is the score.
The best answer is chosen and the worst rejected; where the scores are equal there is no pair. Training
is DPO from the model that made them (beta 0.1), and the next round asks the model that came out. The
paper makes its new prompts with Self-Instruct (`autoalign-cli synthesize`), and first teaches the seed
model to judge, by fine-tuning on human-ranked answers; both are steps before this one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from autoalign.algorithms._drawing import Drawing, draw
from autoalign.algorithms._job import Job
from autoalign.algorithms._made import Made
from autoalign.algorithms._pairing import pair_up, scored
from autoalign.algorithms._rating import Rating, rate

MAKES = "pairs"
TRAINING = {"loss_type": ["sigmoid"], "beta": 0.1}
REASON = "chosen has the highest mean score of the answers, rejected the lowest"


@dataclass(frozen=True)
class Options:
    """What may be set.

    Args:
        judge: who judges; the paper's is the policy itself, hence the name.
        rubric: a judge prompt's name or file, whose verdicts read `Score: 0` to `Score: 5`.
    """

    candidates: int = 4
    judgments: int = 3
    temperature: float = 0.7
    top_p: float = 0.9
    judge: str = "policy"
    rubric: str = "additive"


def run(job: Job, options: Options) -> Iterator[Made]:
    """At most one pair a prompt."""
    drawing = Drawing("answer", options.candidates, "policy", options.temperature, options.top_p)
    rating = Rating(options.judge, options.judgments, options.rubric, options.temperature, options.top_p)
    for batch in job.batches():
        for prompt, rated, dropped in rate(job, batch, draw(job, batch, drawing), rating):
            yield from dropped
            yield from pair_up(prompt, [scored(one.text, one.mean) for one in rated], REASON)
