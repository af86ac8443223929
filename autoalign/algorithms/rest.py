"""ReST, reinforced self-training (arXiv:2308.08998, section 3).

Grow: the policy answers each prompt `samples` times. Improve: answers whose score is above a threshold
are fine-tuned on, and the threshold rises from one Improve step to the next; the paper's are 0, 0.7,
0.8, 0.9, 0.95 and 0.99. The n-th round of the loop takes the n-th threshold, and grows anew each time:
the paper does several Improve steps on what one Grow step gave, which saves sampling and is more
off-policy. Scores are a reward model's, or a verifier's 1 and 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from autoalign.algorithms._drawing import Drawing, draw
from autoalign.algorithms._job import Job
from autoalign.algorithms._made import Dropped, Example, Made
from autoalign.algorithms._scoring import SOURCES, values
from autoalign.errors import ConfigError
from autoalign.records import Message

MAKES = "examples"
REASON = "its score is above the round's threshold"


@dataclass(frozen=True)
class Options:
    """What may be set; `source`: what scores answers, "reward" or "verifier"."""

    source: str = "reward"
    samples: int = 32
    temperature: float = 0.8
    thresholds: tuple[float, ...] = (0.0, 0.7, 0.8, 0.9, 0.95, 0.99)

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise ConfigError(f"source is '{self.source}'; expected {' or '.join(SOURCES)}")
        if not self.thresholds or list(self.thresholds) != sorted(self.thresholds):
            raise ConfigError(f"thresholds are {list(self.thresholds)}; expected numbers that rise")


def run(job: Job, options: Options) -> Iterator[Made]:
    """Up to `samples` examples a prompt."""
    threshold = options.thresholds[min(job.round, len(options.thresholds)) - 1]
    drawing = Drawing("answer", options.samples, temperature=options.temperature)
    for batch in job.batches():
        grown = draw(job, batch, drawing)
        for prompt, drawn, scores in zip(
            batch, grown, values(job, options.source, batch, grown), strict=True
        ):
            yield from drawn.dropped
            for (key, text), score in zip(drawn.texts, scores, strict=True):
                facts = {"score": score, "threshold": threshold}
                if score is None:
                    yield Dropped(key, prompt.id, f"{options.source}: it can't be scored")
                elif score <= threshold:
                    yield Dropped(key, prompt.id, "its score is not above the threshold", facts)
                else:
                    messages = (*prompt.messages, Message("assistant", text))
                    yield Example(key, prompt.id, messages, REASON, facts)
