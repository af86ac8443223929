"""What an algorithm is given: prompts, models to ask, and what checks or scores an answer."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from autoalign.errors import ConfigError
from autoalign.records import Message
from autoalign.synthesis import Generate, PromptSet


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is answered.

    Attributes:
        messages: up to the user's turn.
        answer: a person's answer, where the data has one.
        reference: what a right answer comes to (`72`), where the data has it.
        rejected: a worse answer than `answer`, where the data holds pairs.
    """

    id: str
    messages: tuple[Message, ...]
    answer: str | None = None
    reference: str | None = None
    rejected: str | None = None

    @property
    def judge_reference(self) -> str | None:
        """The reference, unless it is the human answer itself, which may be among what is judged."""
        return None if (self.answer or "").strip() == (self.reference or "").strip() else self.reference

    @property
    def question(self) -> str:
        """The user's last turn."""
        return self.messages[-1].content

    def under(self, system: str) -> tuple[Message, ...]:
        """The conversation under another system message."""
        turns = [message for message in self.messages if message.role != "system"]
        return (Message("system", system), *turns)

    def asking(self, question: str) -> tuple[Message, ...]:
        """The conversation with another last turn of the user's."""
        return (*self.messages[:-1], Message("user", question))

    def shown(self) -> str:
        """The conversation as a text, for judges."""
        return "\n\n".join(f"{message.role}: {message.content}" for message in self.messages)


Verify = Callable[[Prompt, str], bool | None]
"""Whether an answer is right; None where that can't be told (no reference)."""

Extract = Callable[[str], str | None]
"""What an answer comes to, in a form that equal answers share; None where it comes to nothing."""

Reward = Callable[[Sequence[tuple[Prompt, str]]], Sequence[float | None]]
"""Scores of answers, the higher the better; None where there is none."""


@dataclass(frozen=True)
class Job:
    """What an algorithm works with.

    Attributes:
        texts: its prompt files.
        principles: rules that answers are to follow, where it takes any.
        round: which round of the loop this is, from 1.
        tries: how often a judge is asked until its verdict can be read.
        judge_guided: judges are held to JSON of a schema.
        batch_size: prompts that are worked on together. Large, so that models that share a machine
            take turns seldom.
    """

    prompts: Sequence[Prompt]
    texts: PromptSet
    generate: Generate
    principles: tuple[str, ...] = ()
    verify: Verify | None = None
    extract: Extract | None = None
    reward: Reward | None = None
    round: int = 1
    seed: int = 42
    tries: int = 3
    judge_guided: bool = False
    batch_size: int = 1024

    def batches(self) -> Iterator[Sequence[Prompt]]:
        """The prompts in lists of `batch_size`."""
        for start in range(0, len(self.prompts), self.batch_size):
            yield self.prompts[start : start + self.batch_size]

    def random(self, *parts: object) -> random.Random:
        """A random generator of its own for each `parts`: no draw moves another."""
        return random.Random(" ".join(map(str, (self.seed, *parts))))  # noqa: S311 (no secret)

    def principle(self, *parts: object) -> str:
        """One of the principles, drawn for `parts`.

        Raises:
            ConfigError: there are none.
        """
        if not self.principles:
            raise ConfigError("this algorithm needs a principle: set 'principles' in the config")
        return self.random("principle", *parts).choice(self.principles)

    def verifier(self) -> Verify:
        """What tells right answers; raises ConfigError where there is nothing."""
        if self.verify is None:
            raise ConfigError("this algorithm checks answers: set 'verifier' in the config")
        return self.verify

    def extractor(self) -> Extract:
        """What an answer comes to; raises ConfigError where nothing can tell."""
        if self.extract is None:
            raise ConfigError(
                "this algorithm compares final answers: set 'verifier' to numeric, choice or math"
            )
        return self.extract
