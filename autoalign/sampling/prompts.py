"""From data files to prompts ready for an engine: turns checked, rendered, tokenised, counted.

Everything that can be wrong with a prompt is found here, before any engine starts.
The prompts go to a file, not to a list, so memory does not grow with their number.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol

import orjson

from autoalign.errors import TemplateError
from autoalign.records import Conversation, Message, Sample, messages_to_dicts
from autoalign.sampling.places import NameSet, Places
from autoalign.sampling.sweep import Sweep, with_examples

_REFUSED = -1
_OF_A_ROW = {"reference", "params", "reasoning", "logprobs", "turns", "key"}
_OF_A_SAMPLE = {each.name for each in fields(Sample)} | _OF_A_ROW
_KEPT = 1 << 14
_PIECE = 1 << 18  # bytes

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
    """One prompt in one of the ways it is answered.

    Attributes:
        index: its place among all of them, counted from 0.
        messages: what the model is shown; `examples` of them, behind the system message, are not its own.
        renamed: another prompt has the same id.
        extra: is for the answers' rows alone: engines do not see it.
        variant: the number of the way; None where there is but one.
    """

    index: int
    id: str
    messages: tuple[dict[str, Any], ...]
    token_ids: tuple[int, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    renamed: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)
    variant: int | None = None
    examples: int = 0

    @property
    def key(self) -> str:
        """What no other prompt has: the id, and the way where there are several."""
        return self.id if self.variant is None else f"{self.id}~{self.variant}"

    @property
    def own_messages(self) -> tuple[dict[str, Any], ...]:
        """Without the examples."""
        if not self.examples:
            return self.messages
        head = 1 if self.messages and self.messages[0]["role"] == "system" else 0
        return (*self.messages[:head], *self.messages[head + self.examples :])

    def row(self) -> list[Any]:
        """What an engine is to know, as JSON holds it."""
        return [
            *(self.index, self.id, self.messages, self.token_ids, self.tools),
            *(self.variant, self.examples),
        ]

    @classmethod
    def from_row(cls, row: Sequence[Any], extra: Mapping[str, Any] | None = None) -> Prompt:
        """The inverse of `row`."""
        index, name, messages, token_ids, tools, variant, examples = row
        return cls(
            index,
            name,
            tuple(messages),
            tuple(token_ids),
            tuple(tools),
            extra=extra or {},
            variant=variant,
            examples=examples,
        )

    def dumps(self) -> bytes:
        """One line of JSON."""
        return orjson.dumps([*self.row(), self.extra], default=str, option=orjson.OPT_NON_STR_KEYS) + b"\n"

    @classmethod
    def loads(cls, line: bytes) -> Prompt:
        """The inverse of `dumps`."""
        *row, extra = orjson.loads(line)
        return cls.from_row(row, extra)


@dataclass(frozen=True, slots=True)
class Refused:
    """A prompt that no engine will see, and why."""

    index: int
    id: str
    messages: tuple[dict[str, Any], ...]
    reason: str
    renamed: bool = False


class PromptSpool:
    """Prompts in a file without a name, read again by their number; memory does not grow with them.

    The latest ones that were read or written are in memory, at most one for each remainder of its number:
    each is wanted again when its answer comes.
    """

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed by discard)
        self._places = Places(folder)
        self._end = self._flushed = 0
        self._piece, self._piece_begins = b"", 0
        self._latest: list[Prompt | None] = [None] * _KEPT

    def add(self, prompt: Prompt | Refused) -> None:
        """Keep the next prompt; of a refused one only that it was there."""
        if isinstance(prompt, Refused):
            self._places.append(_REFUSED)
            return
        line = prompt.dumps()
        self._file.write(line)
        self._places.append(self._end)
        self._end += len(line)
        self._keep(prompt)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Prompt:
        found = self._latest[index % _KEPT]
        if found is None or found.index != index:
            found = Prompt.loads(self._line(self._places[index]))
            self._keep(found)
        return found

    def _line(self, place: int) -> bytes:
        """The line that begins there; what lies behind it is read with it, being asked for next."""
        begin = place - self._piece_begins
        end = self._piece.find(b"\n", begin) if 0 <= begin < len(self._piece) else -1
        size = _PIECE
        while end < 0:
            if self._flushed < self._end:
                self._file.flush()
                self._flushed = self._end
            self._piece = os.pread(self._file.fileno(), size, place)
            self._piece_begins, begin, size = place, 0, 2 * size
            end = self._piece.find(b"\n")
        return self._piece[begin:end]

    def indices(self) -> Iterator[int]:
        """Places in the input of the prompts that can be asked."""
        return (index for index, place in enumerate(self._places) if place != _REFUSED)

    def _keep(self, prompt: Prompt) -> None:
        self._latest[prompt.index % _KEPT] = prompt

    def discard(self) -> None:
        """Forget them."""
        self._file.close()
        self._places.close()


def prepare(
    conversations: Iterable[Conversation],
    renderer: Renderer,
    system_message: str | None = None,
    sweep: Sweep | None = None,
) -> Iterator[Prompt | Refused]:
    """Render each conversation; a repeated id gets `#2`, `#3`, ... so that every prompt has its own seed.

    Args:
        system_message: takes the place of the conversations' own.
        sweep: the ways in which each is answered, in place of the one with `system_message`.
    """
    sweep = sweep or Sweep.single(system_message)
    names = _Names()
    place = itertools.count()
    only = None if sweep.recorded or len(sweep.variants) > 1 or sweep.examples else sweep.variants[0]
    for conversation in conversations:
        prompt_id = names.distinct(conversation.id)
        renamed = prompt_id != conversation.id
        if only is not None and not renamed:  # nearly all rows of nearly all jobs: copies cost time
            yield to_prompt(next(place), prompt_id, conversation, renderer, only.system_message)
            continue
        for number, prompt in enumerate(_ways(conversation, prompt_id, renderer, sweep)):
            yield replace(prompt, index=next(place), renamed=renamed and number == 0)


class _Names:
    """Gives every prompt a name that no other has."""

    def __init__(self) -> None:
        self._seen = NameSet()
        self._copies: dict[str, int] = {}

    def distinct(self, name: str) -> str:
        """The name, or the first of `NAME#2`, `NAME#3`, ... that is free."""
        if self._seen.add(name):
            return name
        while True:
            copy = self._copies[name] = self._copies.get(name, 1) + 1
            if self._seen.add(f"{name}#{copy}"):
                return f"{name}#{copy}"


def _ways(
    conversation: Conversation, prompt_id: str, renderer: Renderer, sweep: Sweep
) -> Iterator[Prompt | Refused]:
    """What is the same in several ways is rendered once."""
    rendered: dict[tuple[str | None, int | None], Prompt | Refused] = {}
    for number, variant in enumerate(sweep.variants):
        shown = (variant.system_message, variant.few_shot)
        if shown not in rendered:
            messages = with_system(conversation.messages, variant.system_message)
            examples = sweep.drawn(prompt_id, variant.few_shot)
            whole = replace(conversation, messages=with_examples(messages, examples))
            prompt = to_prompt(0, prompt_id, whole, renderer)
            rendered[shown] = prompt
            if isinstance(prompt, Prompt):
                rendered[shown] = replace(prompt, examples=len(whole.messages) - len(messages))
        prompt = rendered[shown]
        if sweep.recorded and isinstance(prompt, Prompt):
            prompt = replace(prompt, variant=number)
        yield prompt


def to_prompt(
    index: int,
    prompt_id: str,
    conversation: Conversation,
    renderer: Renderer,
    system_message: str | None = None,
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
    own = {key: value for key, value in extra.items() if key not in _OF_A_SAMPLE}
    inner = extra.get("extra")
    return {**own, **inner} if isinstance(inner, Mapping) else own


def with_system(messages: Sequence[Message], system_message: str | None) -> tuple[Message, ...]:
    """The messages, with `system_message` (where one is given) in place of their own."""
    if system_message is None:
        return tuple(messages)
    return (Message("system", system_message), *(m for m in messages if m.role != "system"))
