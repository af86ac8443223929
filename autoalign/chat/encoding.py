"""Conversations to token ids and labels.

The rendered text is tokenised once, exactly as serving does it; which tokens
are trained on follows from where they start in the text. A token that starts
inside a span is trained on, also when it reaches past the span's end; one that
starts before the span is not, because serving puts it into the prompt.
"""

from __future__ import annotations

import copy
import json
import weakref
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from autoalign.chat.rendering import Messages, Rendered, Tools, render, render_text
from autoalign.chat.template import Template
from autoalign.errors import ModelError

IGNORED = -100


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids, and as many labels: the id itself, or -100 for what is not trained on."""

    input_ids: list[int]
    labels: list[int]
    truncated: bool = False


def encode(
    messages: Messages,
    tokenizer: Any,
    template: Template,
    max_length: int | None = None,
    *,
    tools: Tools | None = None,
) -> Encoded:
    """Tokenise one conversation for training.

    Args:
        tokenizer: a fast Hugging Face tokenizer. What it would add by itself
            (start and end tokens) is left out: the template writes them.
        max_length: tokens to keep, counted from the left.

    Raises:
        TemplateError: the template refuses the conversation.
        ModelError: the tokenizer can't tell where its tokens stand in the text.
    """
    rendered = _rendered(messages, tokenizer, template, tools)
    return _encode_rendered([rendered], tokenizer, max_length)[0]


def encode_batch(
    conversations: Sequence[Messages],
    tokenizer: Any,
    template: Template,
    max_length: int | None = None,
    *,
    tools: Sequence[Tools | None] | None = None,
) -> list[Encoded]:
    """`encode` for many conversations: one call of the tokenizer, which works in parallel.

    Args:
        tools: one entry a conversation.
    """
    each_tools = tools if tools is not None else [None] * len(conversations)
    rendered = [
        _rendered(messages, tokenizer, template, tool_list)
        for messages, tool_list in zip(conversations, each_tools, strict=True)
    ]
    return _encode_rendered(rendered, tokenizer, max_length)


def encode_prompt(
    messages: Messages, tokenizer: Any, template: Template, *, tools: Tools | None = None
) -> list[int]:
    """Token ids of the conversation with the generation prompt: what a model answers to.

    Raises:
        TemplateError: the template refuses the conversation.
    """
    text = render_text(
        messages,
        template,
        add_generation_prompt=True,
        tools=tools,
        special_tokens=tokenizer.special_tokens_map,
    )
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def _rendered(messages: Messages, tokenizer: Any, template: Template, tools: Tools | None) -> Rendered:
    return render(messages, template, tools=tools, special_tokens=tokenizer.special_tokens_map)


def _encode_rendered(rendered: list[Rendered], tokenizer: Any, max_length: int | None) -> list[Encoded]:
    if not rendered:
        return []
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"{type(tokenizer).__name__} is not a fast tokenizer, so it can't be told which tokens are "
            "trained on; load one that has a tokenizer.json"
        )
    batch = _with_whole_offsets(tokenizer)(
        [one.text for one in rendered],
        add_special_tokens=False,
        return_offsets_mapping=True,
        return_attention_mask=False,
        verbose=False,
    )
    return [
        _encoded(one, ids, offsets, max_length)
        for one, ids, offsets in zip(rendered, batch["input_ids"], batch["offset_mapping"], strict=True)
    ]


def _encoded(
    rendered: Rendered, ids: list[int], offsets: list[tuple[int, int]], max_length: int | None
) -> Encoded:
    starts = [start for start, _ in offsets]
    labels = [IGNORED] * len(ids)
    for start, end in rendered.spans:
        first, last = bisect_left(starts, start), bisect_left(starts, end)
        labels[first:last] = ids[first:last]
    if max_length is None or len(ids) <= max_length:
        return Encoded(ids, labels)
    return Encoded(ids[:max_length], labels[:max_length], truncated=True)


# Tokenizer -> (its vocabulary size then, a twin whose offsets include whitespace).
_TWINS: weakref.WeakKeyDictionary[Any, tuple[int, Any]] = weakref.WeakKeyDictionary()


def _with_whole_offsets(tokenizer: Any) -> Any:
    """The tokenizer, or where it cuts whitespace off its offsets (GPT-2's does) a twin that does not."""
    processor = tokenizer.backend_tokenizer.post_processor
    if processor is None or '"trim_offsets":true' not in _state(processor):
        return tokenizer
    known = _TWINS.get(tokenizer)
    if known is None or known[0] != len(tokenizer):
        from tokenizers.processors import ByteLevel

        twin = copy.deepcopy(tokenizer)
        twin.backend_tokenizer.post_processor = ByteLevel(trim_offsets=False)
        known = _TWINS[tokenizer] = (len(tokenizer), twin)
    return known[1]


def _state(processor: Any) -> str:
    state = processor.__getstate__()
    return json.dumps(json.loads(state), separators=(",", ":"))
