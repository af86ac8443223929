"""What driver and engines say to each other: tasks there, answers back, as JSON in one cell each.

A cell costs Ray the same whether it holds one answer or a thousand; Arrow columns of nested rows
took longer to build and to read than the answers to make, with an engine that is quick.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, NamedTuple

import orjson

from autoalign.sampling.prompts import Prompt


@dataclass(slots=True)
class Answer:
    """One answer, or why there is none (`error`); `prompt` and `index` say which one."""

    prompt: int
    index: int
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    seed: int
    error: str | None
    engine_ready: float  # time.time() when the engine was ready
    logprobs: Sequence[float] | None = None
    turns: Sequence[Mapping[str, Any]] | None = None  # of a conversation of several (`turns.Turn.told`)


_OF_AN_ANSWER = attrgetter(*(field.name for field in fields(Answer)))


class Task(NamedTuple):
    """Prompts that an engine is asked together, each with the indices of the answers wanted."""

    number: int
    prompts: list[tuple[Prompt, list[int]]]


class Message(NamedTuple):
    """What an engine says: answers, that task `finished` is done, or the error that ends the job.

    `replica` names the engine, which has `in_flight` answers at work.
    """

    answers: list[Answer]
    finished: int | None = None
    failure: tuple[str, str] | None = None
    replica: str = ""
    in_flight: int = 0


def pack_task(number: int, prompts: Sequence[tuple[Prompt, list[int]]]) -> bytes:
    """A task for `unpack_task`, without what engines do not see of a prompt."""
    return orjson.dumps([number, [[prompt.row(), wanted] for prompt, wanted in prompts]], default=str)


def unpack_task(raw: bytes) -> Task:
    """The inverse of `pack_task`."""
    number, prompts = orjson.loads(raw)
    return Task(number, [(Prompt.from_row(row), wanted) for row, wanted in prompts])


def pack(message: Message) -> bytes:
    """A message for `unpack`."""
    answers = [_OF_AN_ANSWER(answer) for answer in message.answers]
    return orjson.dumps([answers, *message[1:]])


def unpack(raw: bytes) -> Message:
    """The inverse of `pack`."""
    answers, finished, failure, replica, in_flight = orjson.loads(raw)
    given = [Answer(*answer) for answer in answers]
    return Message(given, finished, failure and (failure[0], failure[1]), replica, in_flight)
