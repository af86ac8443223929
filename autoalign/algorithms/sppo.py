"""SPPO, self-play preference optimization (arXiv:2405.00675, section 4 and algorithm 1).

The policy answers each prompt `samples` times (5; temperature 1). A preference oracle compares every
two answers; the paper's is PairRM, here a judge in both orders. An answer's chance to win against the
policy is the mean over all samples, itself with 1/2: P(y_i > pi) = 1/K sum_j P(y_i > y_j). The answer
with the highest is the winner, the one with the lowest the loser (section 5.1). The loss draws their
log-ratios to +-eta/2 (`sppo_hard`), with eta = 1000, which is beta = 0.001 there. Comparisons that
could not be read are left out of the means. The means are those of the authors' code (uclaml/SPPO,
compute_prob.py), whose later scripts for Llama 3 and Gemma 2 draw at temperature 0.7 and top_p 0.9.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

from autoalign.algorithms._drawing import Drawing, draw
from autoalign.algorithms._job import Job
from autoalign.algorithms._made import Dropped, Made
from autoalign.algorithms._pairing import pair_up, scored
from autoalign.algorithms._rating import compare_by, require_comparison

MAKES = "pairs"
TRAINING = {"loss_type": ["sppo_hard"], "beta": 0.001}
REASON = "chosen wins most often against the policy's answers, rejected least often"


@dataclass(frozen=True)
class Options:
    """What may be set.

    Args:
        judge_prompt: a judge prompt's name or file.
        compare_by: "choice", or "points" for judges that choose by the place alone: each answer is rated.
    """

    samples: int = 5
    temperature: float = 1.0
    judge: str = "judge"
    judge_prompt: str = "pairwise"
    compare_by: str = "choice"

    def __post_init__(self) -> None:
        require_comparison(self.compare_by)


def run(job: Job, options: Options) -> Iterator[Made]:
    """At most one pair a prompt."""
    drawing = Drawing("answer", options.samples, temperature=options.temperature)
    for batch in job.batches():
        drawn = draw(job, batch, drawing)
        duels = [
            (prompt, first, second)
            for prompt, answers in zip(batch, drawn, strict=True)
            for first, second in combinations(answers.texts, 2)
        ]
        matches = [
            (f"{first.key}/against-{second.key.rsplit('-', 1)[-1]}", prompt, first.text, second.text)
            for prompt, first, second in duels
        ]
        points: dict[str, list[float]] = defaultdict(lambda: [0.5])
        for (prompt, first, second), (key, *_), verdict in zip(
            duels,
            matches,
            compare_by(options.compare_by, job, matches, options.judge, options.judge_prompt),
            strict=True,
        ):
            if verdict.value is None:
                yield Dropped(key, prompt.id, verdict.problem)
                continue
            points[first.key].append(verdict.value)
            points[second.key].append(1 - verdict.value)
        for prompt, answers in zip(batch, drawn, strict=True):
            yield from answers.dropped
            met = [text for text in answers.texts if text.key in points]
            yield from pair_up(prompt, [scored(text, fmean(points[text.key])) for text in met], REASON)
