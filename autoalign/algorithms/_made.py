"""What an algorithm makes: examples, preference pairs or prompts, and what it drops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from autoalign.records import Message

Facts = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation to fine-tune on; its last message is the answer.

    Attributes:
        id: unlike any other's of the run.
        prompt_id: the prompt that it came from.
        reason: why it was kept.
        facts: what is known about it: scores, who wrote it (JSON values).
    """

    id: str
    prompt_id: str
    messages: tuple[Message, ...]
    reason: str
    facts: Facts = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pair:
    """A better and a worse answer to the same prompt; the fields are those of `Example`."""

    id: str
    prompt_id: str
    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    reason: str
    facts: Facts = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt that the policy is to answer while it learns; `reference`: what a right answer comes to."""

    id: str
    prompt_id: str
    prompt: tuple[Message, ...]
    reference: str | None
    reason: str
    facts: Facts = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Dropped:
    """What was left out; `rule` is a phrase that drops are counted by."""

    id: str
    prompt_id: str
    rule: str
    facts: Facts = field(default_factory=dict)


Made = Example | Pair | Question | Dropped
