"""The records that flow through AutoAlign: messages, conversations, preference pairs, samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[str, ...] = get_args(Role)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    `train` tells whether an assistant turn is learned from (OpenAI's `weight: 0` turns it off);
    `reasoning` is what an assistant thought beside its answer.
    """

    role: Role
    content: str
    name: str | None = None
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    tool_call_id: str | None = None
    train: bool = True
    reasoning: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The OpenAI message, as chat templates expect it; empty optional fields left out."""
        row: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.name is not None:
            row["name"] = self.name
        if self.tool_calls:
            row["tool_calls"] = [dict(call) for call in self.tool_calls]
        if self.tool_call_id is not None:
            row["tool_call_id"] = self.tool_call_id
        if self.reasoning is not None:
            row["reasoning_content"] = self.reasoning
        return row


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages to learn from (SFT) or to continue (sampling)."""

    id: str
    messages: tuple[Message, ...]
    source: str = ""
    line: int = 0
    tools: tuple[Mapping[str, Any], ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """One prompt with a better and a worse continuation.

    `prompt` holds the shared messages; `chosen` and `rejected` only what follows it.
    """

    id: str
    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    source: str = ""
    line: int = 0
    margin: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class LabelledAnswer:
    """One prompt with one continuation that is good (`label` true) or bad."""

    id: str
    prompt: tuple[Message, ...]
    completion: tuple[Message, ...]
    label: bool
    source: str = ""
    line: int = 0
    tools: tuple[Mapping[str, Any], ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def messages(self) -> tuple[Message, ...]:
        """Prompt and completion."""
        return self.prompt + self.completion


@dataclass(frozen=True, slots=True)
class Sample:
    """One generated answer, as `infer` writes it; `messages` includes the answer.

    `extra` holds the prompt row's other keys, and as `reference` the answer it came with.
    """

    id: str
    prompt_id: str
    index: int
    messages: tuple[Message, ...]
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    seed: int | None
    model: str
    source: str
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The JSONL row, keys in the documented order; `extra` only where it holds something."""
        row: dict[str, Any] = {
            "id": self.id,
            "prompt_id": self.prompt_id,
            "index": self.index,
            "messages": [m.to_dict() for m in self.messages],
            "text": self.text,
            "finish_reason": self.finish_reason,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "seed": self.seed,
            "model": self.model,
            "source": self.source,
        }
        return {**row, "extra": dict(self.extra)} if self.extra else row


def messages_to_dicts(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """A conversation as the list of dicts that a chat template reads."""
    return [m.to_dict() for m in messages]
