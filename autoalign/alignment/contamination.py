"""Whether a training row shares text with what is evaluated."""

from __future__ import annotations

from collections.abc import Sequence

from autoalign.algorithms import Example, Pair, Prompt, Question
from autoalign.curation.overlap import Overlap
from autoalign.records import Message


class Hidden:
    """The held-out and benchmark prompts.

    A row is found by 13 words in a row of a prompt's question (by the whole question where it has 8 to 12),
    or by a conversation that is a prompt's, but for case and spaces: that finds the short ones, too.
    """

    def __init__(self, prompts: Sequence[Prompt]) -> None:
        self._overlap = Overlap((prompt.id, prompt.question) for prompt in prompts)
        self._whole = {_normal(prompt.messages): prompt.id for prompt in prompts}

    def match(self, made: Example | Pair | Question) -> str | None:
        """The id of a prompt that the row shares text with."""
        asked = made.messages[:-1] if isinstance(made, Example) else made.prompt
        return self._whole.get(_normal(asked)) or self._overlap.match(_learned(made))


def _normal(messages: Sequence[Message]) -> tuple[tuple[str, str], ...]:
    """A system message is how something is asked, not what."""
    return tuple(
        (each.role, " ".join(each.content.casefold().split())) for each in messages if each.role != "system"
    )


def _learned(made: Example | Pair | Question) -> str:
    """The last question and the answer to it."""
    if isinstance(made, Example):
        return "\n".join(message.content for message in made.messages[-2:])
    answer = made.chosen if isinstance(made, Pair) else made.reference or ""
    return f"{made.prompt[-1].content}\n{answer}"
