"""STaR, the self-taught reasoner (arXiv:2203.14465, algorithm 1).

The model answers each question with its reasons, by the likeliest tokens. Where the answer is right,
the text is kept. Where it is wrong, the model is asked again with the right answer as a hint
(rationalization); if it then gets there, the text is kept as if it had come without the hint, on the
question as it stands. Where the verifier can't tell, the prompt is left out without a second try. Every
round fine-tunes the first model again, not the last one, which would overfit its own texts. The paper shows
a few worked examples in front of each question; put such turns into the prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from autoalign.algorithms._drawing import Drawing, draw
from autoalign.algorithms._job import Job, Prompt
from autoalign.algorithms._made import Dropped, Example, Made
from autoalign.records import Message

MAKES = "examples"
STARTS_FROM = "base"
RIGHT = "right at once"
HINTED = "right when told the answer"
UNCHECKED = "verifier: it can't be checked"


@dataclass(frozen=True)
class Options:
    """What may be set; `rationalization`: whether wrong answers get a second try with a hint."""

    temperature: float = 0.0
    rationalization: bool = True


def run(job: Job, options: Options) -> Iterator[Made]:
    """At most one example a prompt."""
    for batch in job.batches():
        again: list[Prompt] = []
        for prompt, one in zip(batch, _tried(job, options, batch, hint=False), strict=True):
            failed = isinstance(one, Dropped) and one.rule != UNCHECKED
            if failed and options.rationalization and prompt.reference:
                again.append(prompt)
            else:
                yield one
        yield from _tried(job, options, again, hint=True)


def _tried(job: Job, options: Options, prompts: Sequence[Prompt], hint: bool) -> Iterator[Made]:
    """One example or drop for each prompt, in order."""
    verify = job.verifier()
    tag = "hinted" if hint else "answer"

    def shown(prompt: Prompt) -> tuple[Message, ...]:
        if not hint:
            return prompt.messages
        text = job.texts.render("rationalize", question=prompt.question, reference=prompt.reference)
        return prompt.asking(text)

    drawn = draw(job, prompts, Drawing(tag, temperature=options.temperature), shown)
    for prompt, answers in zip(prompts, drawn, strict=True):
        if answers.dropped:
            yield answers.dropped[0]
            continue
        (key, text), right = answers.texts[0], verify(prompt, answers.texts[0].text)
        if right:
            messages = (*prompt.messages, Message("assistant", text))
            yield Example(key, prompt.id, messages, HINTED if hint else RIGHT, {"hinted": hint})
        elif right is None:
            yield Dropped(key, prompt.id, UNCHECKED)
        else:
            yield Dropped(key, prompt.id, "wrong even with the hint" if hint else "the answer is wrong")
