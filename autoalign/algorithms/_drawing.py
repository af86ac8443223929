"""Answers drawn from a model: the usable ones, and why the others are not."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple

from autoalign.algorithms._job import Job, Prompt
from autoalign.algorithms._made import Dropped
from autoalign.records import Message
from autoalign.synthesis import Ask, Reply


class Text(NamedTuple):
    """A text and the key of the ask that it answers."""

    key: str
    text: str


class Drawn(NamedTuple):
    """The answers to one prompt: usable texts, each once, what was left out, the keys of cut-off texts."""

    texts: list[Text]
    dropped: list[Dropped]
    cut_off: Set[str] = frozenset()


@dataclass(frozen=True)
class Drawing:
    """How answers are drawn; `tag` names them in their keys, `whole` leaves out those that are cut off."""

    tag: str = "answer"
    count: int = 1
    model: str = "policy"
    temperature: float | None = None
    top_p: float | None = None
    distinct: bool = True
    whole: bool = True


def problem_unless_cut_off(reply: Reply) -> str | None:
    """Why a text will not even do to be rejected or criticised; to be learned it has to be whole."""
    return None if reply.finish_reason == "length" and reply.text else reply.problem


Shown = Callable[[Prompt], tuple[Message, ...]]


def draw(
    job: Job, prompts: Sequence[Prompt], how: Drawing, shown: Shown = lambda prompt: prompt.messages
) -> list[Drawn]:
    """`how.count` answers to each prompt, all asked at once.

    Failed and empty answers are dropped, with `whole` cut-off ones too, with `distinct` repeated ones.
    """
    asks = [
        Ask(f"{prompt.id}/{how.tag}-{index}", shown(prompt), how.model, how.temperature, how.top_p)
        for prompt in prompts
        for index in range(how.count)
    ]
    replies = iter(zip(asks, job.generate(asks), strict=True))
    found = []
    for prompt in prompts:
        seen: set[str] = set()
        cut_off: set[str] = set()
        drawn = Drawn([], [], cut_off)
        for _ in range(how.count):
            ask, reply = next(replies)
            problem = reply.problem if how.whole else problem_unless_cut_off(reply)
            rule = problem or ("it repeats another answer" if reply.text in seen else None)
            if rule is not None:
                drawn.dropped.append(Dropped(ask.key, prompt.id, f"answer: {rule}"))
                continue
            drawn.texts.append(Text(ask.key, reply.text))
            if reply.finish_reason == "length":
                cut_off.add(ask.key)
            if how.distinct:
                seen.add(reply.text)
        found.append(drawn)
    return found
