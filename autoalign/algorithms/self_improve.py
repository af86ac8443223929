"""Self-improvement by self-consistency (arXiv:2210.11610, section 3), without labels.

The model reasons step by step through each question `samples` times (32; temperature 0.7), and the
majority of the final answers is taken for right; no reference is looked at. All texts that come to it
are kept. Each is turned into several formats, so that the model does not grow used to one prompt: the
question as it stands, the question with "Let's think step by step", and, once a question, the question
that asks for the answer alone with the majority's answer. The confidence is the majority's share of all
`samples` paths, those that come to no answer among them. Where `min_confidence` asks for it, questions whose
majority has a smaller share are left out (the paper keeps all, and finds that the share tells how right it
is).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from autoalign.algorithms._drawing import Drawing, Drawn, Text, draw
from autoalign.algorithms._job import Extract, Job, Prompt
from autoalign.algorithms._made import Dropped, Example, Made
from autoalign.errors import ConfigError
from autoalign.records import Message

MAKES = "examples"
REASON = "it comes to the majority's answer"
FORMATS = ("plain", "step_by_step", "direct")


@dataclass(frozen=True)
class Options:
    """What may be set; `formats`: of plain, step_by_step and direct."""

    samples: int = 32
    temperature: float = 0.7
    min_confidence: float = 0.0
    formats: tuple[str, ...] = FORMATS

    def __post_init__(self) -> None:
        for name in self.formats:
            if name not in FORMATS:
                raise ConfigError(f"formats holds '{name}'; expected some of {', '.join(FORMATS)}")


def run(job: Job, options: Options) -> Iterator[Made]:
    """The texts that agree with the majority, in each format."""
    extract = job.extractor()
    drawing = Drawing("path", options.samples, temperature=options.temperature, distinct=False)

    def shown(prompt: Prompt) -> tuple[Message, ...]:
        return prompt.asking(job.texts.render("step_by_step", question=prompt.question))

    for batch in job.batches():
        for prompt, drawn in zip(batch, draw(job, batch, drawing, shown), strict=True):
            yield from drawn.dropped
            yield from _of_prompt(job, options, prompt, drawn, extract)


def _of_prompt(job: Job, options: Options, prompt: Prompt, drawn: Drawn, extract: Extract) -> Iterator[Made]:
    ends = {text.key: extract(text.text) for text in drawn.texts}
    votes = Counter(end for end in ends.values() if end is not None)
    if not votes:
        yield Dropped(prompt.id, prompt.id, "no text comes to an answer")
        return
    # Of answers with as many votes the one that was said first.
    (majority, count), *_ = votes.most_common(1)
    confidence = count / options.samples
    if confidence < options.min_confidence:
        yield Dropped(prompt.id, prompt.id, "the majority is too small", {"confidence": confidence})
        return
    seen: set[str] = set()
    for text in drawn.texts:
        if ends[text.key] != majority or text.text in seen:
            rule = "it repeats another answer" if text.text in seen else "it comes to another answer"
            yield Dropped(text.key, prompt.id, rule if ends[text.key] else "it comes to no answer")
            continue
        seen.add(text.text)
        yield from _formats(job, options, prompt, text, {"confidence": confidence, "votes": count})
    if "direct" in options.formats:
        asked = prompt.asking(job.texts.render("direct", question=prompt.question))
        messages = (*asked, Message("assistant", majority))
        facts = {"confidence": confidence, "votes": count, "format": "direct"}
        yield Example(f"{prompt.id}/direct", prompt.id, messages, REASON, facts)


def _formats(
    job: Job, options: Options, prompt: Prompt, text: Text, facts: dict[str, float]
) -> Iterator[Example]:
    for name in options.formats:
        if name == "direct":
            continue
        question = prompt.question if name == "plain" else job.texts.render(name, question=prompt.question)
        messages = (*prompt.asking(question), Message("assistant", text.text))
        yield Example(f"{text.key}/{name}", prompt.id, messages, REASON, {**facts, "format": name})
