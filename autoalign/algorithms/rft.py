"""Rejection-sampling fine-tuning (arXiv:2308.01825, section 3.3).

The model answers each training question `samples` times (100; temperature 0.7). Answers with the wrong
result, or with a calculation in them that is wrong, are dropped. Of those left, one is kept for each
distinct list of equations: other ways to the answer are worth having, other wordings are not. The kept
answers and the human ones (`with_originals`) are what the base model is fine-tuned on.

100 and 0.7 are those of the authors' code (OFA-Sys/gsm8k-ScRel) too. It keeps, of answers with the same
equations, the one whose text is farthest from the others, and looks at equations in `<<...>>` alone; here
the first one is kept, and equations are found in plain text as well. `samples: 0` is plain fine-tuning on
the human answers, which is what RFT is to be measured against.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from autoalign.algorithms._drawing import Drawing, Drawn, draw
from autoalign.algorithms._equations import equations, holds
from autoalign.algorithms._job import Job, Prompt, Verify
from autoalign.algorithms._made import Dropped, Example, Made
from autoalign.errors import ConfigError
from autoalign.records import Message

MAKES = "examples"
STARTS_FROM = "base"
REASON = "right, by a way of its own"
HUMAN = "the human answer"


@dataclass(frozen=True)
class Options:
    """What may be set; `with_originals`: learn from the human answers too."""

    samples: int = 100
    temperature: float = 0.7
    with_originals: bool = True

    def __post_init__(self) -> None:
        if self.samples < 0 or not (self.samples or self.with_originals):
            raise ConfigError(
                f"samples is {self.samples}; expected 1 or more, or 0 for the human answers alone "
                "(with_originals: true)"
            )


def run(job: Job, options: Options) -> Iterator[Made]:
    """An example for each distinct right way, behind the human one."""
    verify = job.verifier()
    drawing = Drawing("answer", options.samples, temperature=options.temperature)
    for batch in job.batches():
        for prompt, drawn in zip(batch, draw(job, batch, drawing), strict=True):
            if options.with_originals and prompt.answer:
                messages = (*prompt.messages, Message("assistant", prompt.answer))
                yield Example(f"{prompt.id}/human", prompt.id, messages, HUMAN, {"by": "human"})
            yield from _right(prompt, drawn, verify)


def _right(prompt: Prompt, drawn: Drawn, verify: Verify) -> Iterator[Made]:
    yield from drawn.dropped
    ways: set[tuple[str, ...]] = set()
    for key, text in drawn.texts:
        found = equations(text)
        way = tuple(str(equation) for equation in found)
        if rule := _refused(verify(prompt, text), all(map(holds, found)), way in ways):
            yield Dropped(key, prompt.id, rule)
            continue
        ways.add(way)
        messages = (*prompt.messages, Message("assistant", text))
        yield Example(key, prompt.id, messages, REASON, {"equations": list(way)})


def _refused(right: bool | None, calculates: bool, known: bool) -> str | None:
    if right is None:
        return "verifier: it can't be checked"
    if not right:
        return "the answer is wrong"
    if not calculates:
        return "a calculation in it is wrong"
    return "the same equations as another answer" if known else None
