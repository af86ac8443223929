"""Context distillation (arXiv:2112.00861, section 2.2; arXiv:2209.15189).

The model answers with the principles in its system message, and is fine-tuned to give that answer
without them: what a prompt can do is moved into the weights. Askell et al. minimise the KL divergence
between the two distributions on any text; here, as in Snell et al. and in RLCD's baseline
(arXiv:2307.12950, section 4), the teacher's sampled answers are what is learned. Nothing is judged;
answers that did not come about, or repeat another to the same prompt, are dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from autoalign.algorithms._drawing import Drawing, draw
from autoalign.algorithms._job import Job, Prompt
from autoalign.algorithms._made import Example, Made
from autoalign.errors import ConfigError
from autoalign.records import Message

MAKES = "examples"
REASON = "written with the principles in the system message"


@dataclass(frozen=True)
class Options:
    """What may be set; `teacher`: who is shown the principles, "policy" or "strong"."""

    samples: int = 1
    temperature: float = 1.0
    teacher: str = "policy"

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ConfigError(f"samples is {self.samples}; expected 1 or more")


def run(job: Job, options: Options) -> Iterator[Made]:
    """Up to `samples` examples for each prompt."""
    job.principle()
    system = job.texts.render("system", principles=job.principles)
    how = Drawing("taught", options.samples, options.teacher, options.temperature)

    def shown(prompt: Prompt) -> tuple[Message, ...]:
        return prompt.under(system)

    for batch in job.batches():
        for prompt, drawn in zip(batch, draw(job, batch, how, shown), strict=True):
            yield from drawn.dropped
            for key, text in drawn.texts:
                messages = (*prompt.messages, Message("assistant", text))
                yield Example(key, prompt.id, messages, REASON, {"by": options.teacher})
