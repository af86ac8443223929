"""Two answers asked for in opposite ways; how they were asked for says which one is better."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from autoalign.algorithms._drawing import problem_unless_cut_off
from autoalign.algorithms._job import Job, Prompt
from autoalign.algorithms._made import Dropped, Made, Pair
from autoalign.errors import ConfigError
from autoalign.records import Message
from autoalign.synthesis import Ask

REASON = "chosen was asked to follow the principle, rejected to break it"


class Contrast(NamedTuple):
    """What is asked on either side, and what a pair's facts say about it."""

    positive: tuple[Message, ...]
    negative: tuple[Message, ...]
    facts: Mapping[str, str]


def opposite_of(principle: str, job: Job, opposites: Sequence[str]) -> str:
    """What the negative side is told instead of `principle`; "" where the config names no opposites.

    Raises:
        ConfigError: there are not as many opposites as principles.
    """
    if not opposites:
        return ""
    if len(opposites) != len(job.principles):
        raise ConfigError(
            f"{len(opposites)} opposites for {len(job.principles)} principles; "
            "name one opposite for each principle, in the same order"
        )
    return opposites[job.principles.index(principle)]


def facts_of(principle: str, opposite: str) -> dict[str, str]:
    """What a pair says of its contrast."""
    return {"principle": principle, **({"opposite": opposite} if opposite else {})}


def contrasted(
    job: Job, contrast: Callable[[Prompt], Contrast], temperature: float, reason: str = REASON
) -> Iterator[Made]:
    """A pair for each prompt; none where an answer failed or both are the same.

    A rejected answer may be cut off: nobody is to write like it, and where the contrast is in the length
    the long ones are what is wanted.
    """
    for batch in job.batches():
        sides = [contrast(prompt) for prompt in batch]
        asks = [
            Ask(f"{prompt.id}/{name}", shown, temperature=temperature)
            for prompt, side in zip(batch, sides, strict=True)
            for name, shown in (("positive", side.positive), ("negative", side.negative))
        ]
        replies = job.generate(asks)
        for prompt, side, chosen, rejected in zip(batch, sides, replies[::2], replies[1::2], strict=True):
            problem = chosen.problem or problem_unless_cut_off(rejected)
            if problem is not None:
                yield Dropped(prompt.id, prompt.id, f"answer: {problem}")
            elif chosen.text == rejected.text:
                yield Dropped(prompt.id, prompt.id, "both answers are the same")
            else:
                yield Pair(
                    prompt.id, prompt.id, prompt.messages, chosen.text, rejected.text, reason, side.facts
                )
