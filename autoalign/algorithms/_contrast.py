"""Two answers asked for in opposite ways; how they were asked for says which one is better."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from autoalign.algorithms._job import Ask, Job, Prompt
from autoalign.algorithms._made import Dropped, Made, Pair
from autoalign.records import Message

REASON = "chosen was asked to follow the principle, rejected to break it"


class Contrast(NamedTuple):
    """What is asked on either side, and what a pair's facts say about it."""

    positive: tuple[Message, ...]
    negative: tuple[Message, ...]
    facts: Mapping[str, str]


def contrasted(
    job: Job, contrast: Callable[[Prompt], Contrast], temperature: float, reason: str = REASON
) -> Iterator[Made]:
    """A pair for each prompt; none where an answer failed or both are the same."""
    for batch in job.batches():
        sides = [contrast(prompt) for prompt in batch]
        asks = [
            Ask(f"{prompt.id}/{name}", shown, temperature=temperature)
            for prompt, side in zip(batch, sides, strict=True)
            for name, shown in (("positive", side.positive), ("negative", side.negative))
        ]
        replies = job.generate(asks)
        for prompt, side, chosen, rejected in zip(batch, sides, replies[::2], replies[1::2], strict=True):
            problem = chosen.problem or rejected.problem
            if problem is not None:
                yield Dropped(prompt.id, prompt.id, f"answer: {problem}")
            elif chosen.text == rejected.text:
                yield Dropped(prompt.id, prompt.id, "both answers are the same")
            else:
                yield Pair(
                    prompt.id, prompt.id, prompt.messages, chosen.text, rejected.text, reason, side.facts
                )
