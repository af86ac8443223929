"""WPO, weighted preference optimization, hybrid setting (arXiv:2406.11827, sections 3 and 4.1).

To the `samples` answers of the policy (5; temperature 0.7) come the answers that the data holds, which
are off-policy. All are scored by one judge or reward model; the best is chosen and the worst rejected.
What is off-policy then counts less: the loss `wpo` weighs each pair by how likely the policy is to write
both its answers, next to what it writes itself, so that training comes nearer to on-policy RL. `beta` is
0.01, as in both of the authors' training configs (wzhouad/WPO); they take the scores from GPT-4, here a judge
or a reward model gives them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from autoalign.algorithms._drawing import Drawing, Drawn, Text, draw
from autoalign.algorithms._job import Job, Prompt
from autoalign.algorithms._made import Made
from autoalign.algorithms._pairing import pair_up, scored
from autoalign.algorithms._rating import Rating, rate
from autoalign.algorithms._scoring import values
from autoalign.errors import ConfigError

MAKES = "pairs"
TRAINING = {"loss_type": ["wpo"], "beta": 0.01}
REASON = "chosen has the highest score of the policy's and the data's answers, rejected the lowest"


@dataclass(frozen=True)
class Options:
    """What may be set; `source`: what scores answers, "reward" or "judge"."""

    source: str = "reward"
    samples: int = 5
    temperature: float = 0.7
    judge: str = "judge"
    rubric: str = "additive"

    def __post_init__(self) -> None:
        if self.source not in ("reward", "judge"):
            raise ConfigError(f"source is '{self.source}'; expected reward or judge")


def run(job: Job, options: Options) -> Iterator[Made]:
    """At most one pair a prompt."""
    for batch in job.batches():
        own = draw(job, batch, Drawing("answer", options.samples, temperature=options.temperature))
        both = [_with_given(prompt, drawn) for prompt, drawn in zip(batch, own, strict=True)]
        if options.source == "judge":
            for prompt, rated, dropped in rate(job, batch, both, Rating(options.judge, 1, options.rubric)):
                yield from dropped
                yield from pair_up(prompt, [scored(one.text, one.mean) for one in rated], REASON)
        else:
            yield from _rewarded(job, batch, both)


def _with_given(prompt: Prompt, drawn: Drawn) -> Drawn:
    """The policy's answers and the data's, each text once."""
    known = {text.text for text in drawn.texts}
    given = {"given-answer": prompt.answer, "given-rejected": prompt.rejected}
    more = [Text(f"{prompt.id}/{name}", text) for name, text in given.items() if text and text not in known]
    return Drawn([*drawn.texts, *more], drawn.dropped)


def _rewarded(job: Job, batch: Sequence[Prompt], both: Sequence[Drawn]) -> Iterator[Made]:
    for prompt, drawn, scores in zip(batch, both, values(job, "reward", batch, both), strict=True):
        yield from drawn.dropped
        found = [
            scored(text, value) for text, value in zip(drawn.texts, scores, strict=True) if value is not None
        ]
        yield from pair_up(prompt, found, REASON)
