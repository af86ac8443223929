"""What a method is given, and what it gives back."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, TypeVar

from autoalign.records import Message
from autoalign.synthesis._prompts import PromptSet

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ask:
    """One text to generate.

    Attributes:
        key: what no other ask of the run has; the text's seed follows from it.
        messages: what the model is shown; the user's turn is the last one.
        model: whom, where a job has several: "policy" (the one that is being aligned), "judge", "strong",
            "weak", "generator".
        temperature, top_p: None takes the job's; temperature 0, the likeliest tokens, is for judgements.
        json_schema: the text is JSON of this schema and nothing else; not every engine can.
        writes: "answer", or "question": the model is to write the user's next turn, fed with nothing
            but what a chat template puts in front of it.
        stop: texts that end it.
    """

    key: str
    messages: tuple[Message, ...]
    model: str = "policy"
    temperature: float | None = None
    top_p: float | None = None
    json_schema: str | None = None
    writes: Literal["answer", "question"] = "answer"
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """A text; `finish_reason` is `stop`, `length` (cut off) or `error` (`text` is then empty)."""

    text: str
    finish_reason: str = "stop"

    @property
    def problem(self) -> str | None:
        """Why it can't be used as an answer or a question; None where it can."""
        if self.finish_reason == "error":
            return "the engine failed"
        if self.finish_reason == "length":
            return "cut off at max_new_tokens"
        return None if self.text else "an empty text"


Generate = Callable[[Sequence[Ask]], Sequence[Reply]]


@dataclass(frozen=True, slots=True)
class Seed:
    """What a method starts from: an instruction, a text or a persona, whatever its `SEEDS` says."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """A row that was made.

    Attributes:
        messages: the conversation; empty where none came about.
        reason: why it was dropped, in words that rows are counted by; None: it is kept.
        facts: what is known about it (a score, an earlier row that it is too much like).
    """

    id: str
    messages: tuple[Message, ...] = ()
    reason: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """What a method works with; `batch_size` asks go out together."""

    seeds: Sequence[Seed]
    prompts: PromptSet
    generate: Generate
    batch_size: int = 64
    seed: int = 42
    system_message: str | None = None

    def ask(self, key: str, text: str, *, greedy: bool = False) -> Ask:
        """An ask of one user turn."""
        temperature = 0.0 if greedy else None
        return Ask(key, (*self.system, Message("user", text)), temperature=temperature)

    @property
    def system(self) -> tuple[Message, ...]:
        """The system message, where the job has one."""
        return () if self.system_message is None else (Message("system", self.system_message),)

    def random(self, *parts: object) -> random.Random:
        """A random generator of its own for each `parts`: no draw moves another."""
        return random.Random(" ".join(map(str, (self.seed, *parts))))  # noqa: S311 (no secret)

    def batches(self, items: Iterable[T]) -> Iterator[list[T]]:
        """`items` in lists of `batch_size`."""
        iterator = iter(items)
        while batch := list(islice(iterator, self.batch_size)):
            yield batch


def conversation(question: str, answer: str) -> tuple[Message, ...]:
    """One question with its answer."""
    return (Message("user", question), Message("assistant", answer))
