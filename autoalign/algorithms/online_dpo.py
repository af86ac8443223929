"""Online DPO with AI feedback (OAIF, arXiv:2402.04792, section 3 and algorithm 1).

For each prompt the policy of the moment gives two answers (temperature 0.9), a judge is asked which is
better in both orders, and the policy is trained on the pair: on-policy data, labelled online. The paper
does this at every step; here a round is a step, so many short rounds over fresh prompts come close to
it. Pairs where the judge's two verdicts disagree, or are ties, are dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from autoalign.algorithms._drawing import Drawing, Text, draw
from autoalign.algorithms._job import Job, Prompt
from autoalign.algorithms._made import Dropped, Made, Pair
from autoalign.algorithms._rating import compare_by, require_comparison

MAKES = "pairs"
TRAINING = {"loss_type": ["sigmoid"], "beta": 0.1}
REASONS = {
    "choice": "the judge prefers chosen in both orders",
    "points": "the judge gives chosen more points",
}
_TIES = {"choice": "the judge sees no winner in both orders", "points": "both get the same points"}


@dataclass(frozen=True)
class Options:
    """What may be set.

    Args:
        judge_prompt: a judge prompt's name or file.
        compare_by: "choice", or "points" for judges that choose by the place alone: each answer is rated.
    """

    temperature: float = 0.9
    judge: str = "judge"
    judge_prompt: str = "pairwise"
    compare_by: str = "choice"

    def __post_init__(self) -> None:
        require_comparison(self.compare_by)


def run(job: Job, options: Options) -> Iterator[Made]:
    """At most one pair a prompt."""
    for batch in job.batches():
        rivals: list[tuple[Prompt, Text, Text]] = []
        for prompt, drawn in zip(
            batch, draw(job, batch, Drawing("answer", 2, temperature=options.temperature)), strict=True
        ):
            yield from drawn.dropped
            if len(drawn.texts) == 2:
                rivals.append((prompt, drawn.texts[0], drawn.texts[1]))
        matches = [(f"{prompt.id}/online", prompt, a.text, b.text) for prompt, a, b in rivals]
        for (prompt, a, b), verdict in zip(
            rivals,
            compare_by(options.compare_by, job, matches, options.judge, options.judge_prompt),
            strict=True,
        ):
            if verdict.value is None:
                yield Dropped(prompt.id, prompt.id, verdict.problem)
            elif verdict.value == 0.5:
                yield Dropped(prompt.id, prompt.id, _TIES[options.compare_by])
            else:
                better, worse = (a, b) if verdict.value else (b, a)
                facts = {"chosen_id": better.key, "rejected_id": worse.key}
                yield Pair(
                    prompt.id,
                    prompt.id,
                    prompt.messages,
                    better.text,
                    worse.text,
                    REASONS[options.compare_by],
                    facts,
                )
