"""RLCD, contrastive distillation (arXiv:2307.12950, section 3).

Each prompt is answered twice: once with a hint behind the question that asks for the attribute, once
with a hint that asks for its opposite. The first answer is chosen and the second rejected because of
how they were asked for: no judge looks at them, and no pair is filtered. The pair is trained on the
prompt without any hint. Two rules make a good contrast (section 3.2): the positive text makes the
attribute likelier than the negative one, and their wording differs as little as can be.

The paper puts the hint into the opening of the assistant's turn of a base model; a chat template closes
that turn, so here it stands at the end of the user's. The paper draws one of 16 contrasts for each
prompt where harmlessness is wanted; here one of `contrasts` is drawn, files of
`autoalign/prompts/algorithms/rlcd/`, and `principle` takes one of the config's principles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from autoalign.algorithms._contrast import Contrast, contrasted, facts_of, opposite_of
from autoalign.algorithms._job import Job, Prompt
from autoalign.algorithms._made import Made
from autoalign.errors import ConfigError
from autoalign.records import Message

MAKES = "pairs"


@dataclass(frozen=True)
class Options:
    """What may be set.

    Attributes:
        contrasts: names of prompt files, of which each prompt draws one.
        opposites: what the negative side of the contrast `principle` is told, one for each principle in
            the same order. None: to break the principle, which small models do not understand.
    """

    contrasts: tuple[str, ...] = ("principle",)
    temperature: float = 1.0
    opposites: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.contrasts:
            raise ConfigError("contrasts is empty; name at least one, such as principle")


def run(job: Job, options: Options) -> Iterator[Made]:
    """A pair for each prompt."""

    def contrast(prompt: Prompt) -> Contrast:
        name = job.random("contrast", prompt.id).choice(options.contrasts)
        if name != "principle":
            return Contrast(*_hints(job, prompt, name, "", ""), {"contrast": name})
        principle = job.principle(prompt.id)
        opposite = opposite_of(principle, job, options.opposites)
        hints = _hints(job, prompt, name, principle, opposite)
        return Contrast(*hints, {"contrast": name, **facts_of(principle, opposite)})

    yield from contrasted(job, contrast, options.temperature)


def _hints(
    job: Job, prompt: Prompt, name: str, principle: str, opposite: str
) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    positive, negative = (
        job.texts.render(name, question=prompt.question, principle=principle, opposite=opposite, side=side)
        for side in ("positive", "negative")
    )
    return prompt.asking(positive), prompt.asking(negative)
