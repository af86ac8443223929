"""GRPO, group relative policy optimization (arXiv:2402.03300, section 4.1 and algorithm 1), with rewards
that can be checked.

A round is the paper's outer iteration: the policy as the round finds it is the reference, and a `grpo`
job (`autoalign.reinforcement`) answers the round's prompts in groups, scores them, and takes a step on
each batch of groups. A group whose rewards are all the same has no advantage to learn from. With
`samples` over 0 the policy answers every prompt so often before, and prompts that it then always or never
gets right are dropped, so that no group is spent on them (arXiv:2503.14476 filters alike, at each step).
Answers that are cut off are scored as they stand there, as the job scores them.

The paper's: beta 0.04, 64 answers to a prompt, a learning rate of 1e-6, one step on each batch of answers
(section 4.2). The job's own defaults are smaller groups (`num_generations` 8) and no KL.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from autoalign.algorithms._drawing import Drawing, draw
from autoalign.algorithms._job import Job, Prompt
from autoalign.algorithms._made import Dropped, Made, Question
from autoalign.algorithms._scoring import values
from autoalign.errors import ConfigError

MAKES = "prompts"
TRAINING = {"beta": 0.04, "loss_type": "grpo"}


@dataclass(frozen=True)
class Options:
    """What may be set; `samples`: answers by which prompts are chosen, 0 takes all."""

    samples: int = 0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.samples < 0 or self.samples == 1:
            raise ConfigError(f"samples is {self.samples}; 0 takes all prompts, a group has 2 or more")


def run(job: Job, options: Options) -> Iterator[Made]:
    """The prompts that the round learns from."""
    if not options.samples:
        for prompt in job.prompts:
            yield _question(prompt, "every prompt is taken")
        return
    drawing = Drawing("screen", options.samples, temperature=options.temperature, distinct=False, whole=False)
    for batch in job.batches():
        groups = draw(job, batch, drawing)
        for prompt, group, rewards in zip(batch, groups, values(job, "verifier", batch, groups), strict=True):
            yield from group.dropped
            known = [reward for reward in rewards if reward is not None]
            if len(set(known)) < 2:
                rule = "all rewards of the group are equal" if known else "verifier: no reward"
                yield Dropped(prompt.id, prompt.id, rule)
                continue
            share = sum(known) / len(known)
            yield _question(prompt, "the policy gets it right at times", {"right": round(share, 4)})


def _question(prompt: Prompt, reason: str, facts: dict[str, float] | None = None) -> Question:
    return Question(prompt.id, prompt.id, prompt.messages, prompt.reference, reason, facts or {})
