"""From data files to prompts ready for an engine: turns checked, rendered, tokenised, counted.

Everything that can be wrong with a prompt is found here, before any engine starts.
The prompts go to a file, not to a list, so memory does not grow with their number.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol

from autoalign.errors import TemplateError
from autoalign.records import Conversation, Message, Sample, messages_to_dicts

_REFUSED = -1
_DUMPED = ("index", "id", "messages", "token_ids", "tools")
_OF_A_SAMPLE = {each.name for each in fields(Sample)}

Tools = Sequence[Mapping[str, Any]]


class Renderer(Protocol):
    """Turns messages into what an engine is fed."""

    stop_token_ids: tuple[int, ...]
    stop_strings: tuple[str, ...]
    context: int | None

    def encode(self, messages: Sequence[Message], tools: Tools = ()) -> list[int]:
        """Token ids of the prompt, the assistant's header included.

        Raises:
            TemplateError: the template refuses these messages.
        """
        ...


class PlainRenderer:
    """For engines that render by themselves (`openai`): no token ids at all."""

    stop_token_ids: tuple[int, ...] = ()
    stop_strings: tuple[str, ...] = ()
    context: int | None = None

    def encode(self, messages: Sequence[Message], tools: Tools = ()) -> list[int]:
        """Always empty."""
        return []


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt; `index` is its place in the input, counted from 0; `renamed` marks a repeated id.

    `extra` is for the answers' rows alone: engines do not see it.
    """

    index: int
    id: str
    messages: tuple[dict[str, Any], ...]
    token_ids: tuple[int, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    renamed: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

    def dumps(self) -> bytes:
        """One line of JSON."""
        row = {name: getattr(self, name) for name in (*_DUMPED, "extra")}
        return json.dumps(row, ensure_ascii=False, default=str).encode() + b"\n"

    @classmethod
    def loads(cls, line: bytes) -> Prompt:
        """The inverse of `dumps`."""
        row = json.loads(line)
        return cls(
            row["index"],
            row["id"],
            tuple(row["messages"]),
            tuple(row["token_ids"]),
            tuple(row["tools"]),
            extra=row["extra"],
        )


@dataclass(frozen=True, slots=True)
class Refused:
    """A prompt that no engine will see, and why."""

    index: int
    id: str
    messages: tuple[dict[str, Any], ...]
    reason: str
    renamed: bool = False


class PromptSpool:
    """Prompts in a file; 8 bytes of memory for each say where it lies."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("w+b")
        self._places = array("q")
        self._end = 0

    def add(self, prompt: Prompt | Refused) -> None:
        """Keep the next prompt; of a refused one only that it was there."""
        if isinstance(prompt, Refused):
            self._places.append(_REFUSED)
            return
        line = prompt.dumps()
        self._file.write(line)
        self._places.append(self._end)
        self._end += len(line)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Prompt:
        self._file.seek(self._places[index])
        return Prompt.loads(self._file.readline())

    def indices(self) -> Iterator[int]:
        """Places in the input of the prompts that can be asked."""
        return (index for index, place in enumerate(self._places) if place != _REFUSED)

    def discard(self) -> None:
        """Close and remove the file."""
        self._file.close()
        self._path.unlink(missing_ok=True)


def prepare(
    conversations: Iterable[Conversation], renderer: Renderer, system_message: str | None
) -> Iterator[Prompt | Refused]:
    """Render each conversation; a repeated id gets `#2`, `#3`, ... so that every prompt has its own seed."""
    seen: dict[str, int] = {}
    for index, conversation in enumerate(conversations):
        count = seen[conversation.id] = seen.get(conversation.id, 0) + 1
        prompt_id = conversation.id if count == 1 else f"{conversation.id}#{count}"
        prompt = to_prompt(index, prompt_id, conversation, renderer, system_message)
        yield prompt if count == 1 else replace(prompt, renamed=True)


def to_prompt(
    index: int, prompt_id: str, conversation: Conversation, renderer: Renderer, system_message: str | None
) -> Prompt | Refused:
    """Render one conversation up to where the assistant is to speak."""
    messages = with_system(conversation.messages, system_message)
    dicts = tuple(messages_to_dicts(messages))
    try:
        token_ids = renderer.encode(messages, conversation.tools)
    except TemplateError as error:
        return Refused(index, prompt_id, dicts, str(error))
    if renderer.context is not None and len(token_ids) >= renderer.context:
        reason = f"the prompt has {len(token_ids)} tokens; the context holds {renderer.context}"
        return Refused(index, prompt_id, dicts, f"{reason}, and an answer must fit too")
    extra = carried(conversation.extra)
    return Prompt(index, prompt_id, dicts, tuple(token_ids), conversation.tools, extra=extra)


def carried(extra: Mapping[str, Any]) -> dict[str, Any]:
    """What an answer's row keeps of its prompt's: all other keys, of an earlier sample only its `extra`."""
    if "prompt_id" not in extra:
        return dict(extra)
    own = {key: value for key, value in extra.items() if key not in _OF_A_SAMPLE | {"reference"}}
    inner = extra.get("extra")
    return {**own, **inner} if isinstance(inner, Mapping) else own


def with_system(messages: Sequence[Message], system_message: str | None) -> tuple[Message, ...]:
    """The messages, with `system_message` (where one is given) in place of their own."""
    if system_message is None:
        return tuple(messages)
    return (Message("system", system_message), *(m for m in messages if m.role != "system"))
