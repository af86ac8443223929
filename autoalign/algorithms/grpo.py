"""GRPO, group relative policy optimization (arXiv:2402.03300, section 4.1), with verifiable rewards.

The policy answers each prompt `samples` times (64), a verifier or a reward model scores the answers,
and each answer's advantage is its reward in standard deviations from its group's mean (outcome
supervision, 4.1.2): A_i = (r_i - mean(r)) / std(r). No value model is needed. A group whose rewards are
all the same has no advantage to learn from and is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

from autoalign.algorithms._drawing import Drawing, draw
from autoalign.algorithms._job import Job
from autoalign.algorithms._made import Dropped, Made, Rollout
from autoalign.algorithms._scoring import SOURCES, values
from autoalign.errors import ConfigError

MAKES = "rollouts"
REASON = "an answer of a group whose rewards differ"


@dataclass(frozen=True)
class Options:
    """What may be set; `source`: what scores answers, "verifier" or "reward"."""

    source: str = "verifier"
    samples: int = 64
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise ConfigError(f"source is '{self.source}'; expected {' or '.join(SOURCES)}")
        if self.samples < 2:
            raise ConfigError(f"samples is {self.samples}; a group has 2 or more")


def run(job: Job, options: Options) -> Iterator[Made]:
    """The answers of each group with their advantages."""
    drawing = Drawing("rollout", options.samples, temperature=options.temperature, distinct=False)
    for batch in job.batches():
        groups = draw(job, batch, drawing)
        for prompt, group, rewards in zip(
            batch, groups, values(job, options.source, batch, groups), strict=True
        ):
            yield from group.dropped
            known = [
                (text, reward)
                for text, reward in zip(group.texts, rewards, strict=True)
                if reward is not None
            ]
            gained = advantages([reward for _, reward in known])
            if not any(gained):
                rule = "all rewards of the group are equal" if known else f"{options.source}: no reward"
                yield Dropped(prompt.id, prompt.id, rule)
                continue
            for (text, reward), advantage in zip(known, gained, strict=True):
                yield Rollout(text.key, prompt.id, prompt.messages, text.text, reward, advantage, REASON)


def advantages(rewards: Sequence[float]) -> list[float]:
    """Each reward less the mean, over the group's (population) standard deviation; zeros where that is 0."""
    if len(set(rewards)) < 2:
        return [0.0] * len(rewards)
    mean, spread = fmean(rewards), pstdev(rewards)
    return [(reward - mean) / spread for reward in rewards]
