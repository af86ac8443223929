"""Conversations to text, with the characters that are trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from autoalign.chat import jinja
from autoalign.chat.comparing import is_said, spans_by_comparing
from autoalign.chat.jinja import Rendered, Span
from autoalign.chat.template import Template
from autoalign.errors import TemplateError
from autoalign.records import Message

__all__ = ["Messages", "Rendered", "render", "render_text"]

Messages = Sequence[Message | Mapping[str, Any]]
Tools = Sequence[Mapping[str, Any]]


def render_text(
    messages: Messages,
    template: Template,
    *,
    add_generation_prompt: bool,
    bos_token: str = "",
    eos_token: str = "",
    tools: Tools | None = None,
    special_tokens: Mapping[str, Any] | None = None,
) -> str:
    """The conversation as the model reads it.

    Args:
        messages: `records.Message` or OpenAI-style dicts.
        add_generation_prompt: end with what precedes the next answer.
        bos_token, eos_token: what the template's variables of that name stand for.
        tools: OpenAI-style tool definitions.
        special_tokens: more variables, such as a tokenizer's `special_tokens_map`.

    Raises:
        TemplateError: the template refuses the conversation.
    """
    variables = _variables(bos_token, eos_token, tools, special_tokens)
    return _run(_as_dicts(messages), template, variables, add_generation_prompt).text


def render(
    messages: Messages,
    template: Template,
    *,
    bos_token: str = "",
    eos_token: str = "",
    tools: Tools | None = None,
    special_tokens: Mapping[str, Any] | None = None,
) -> Rendered:
    """The conversation as text, and the spans of it that are trained on.

    A span is `(start, end)` in characters: an assistant turn from the end of its
    generation prompt to the end of its end token. Turns with `train=False`
    (`weight: 0`) have none.

    Raises:
        TemplateError: the template refuses the conversation, leaves out part of its
            last answer or all reasoning, or has no marks and comparing renderings
            does not tell where its answers are.
    """
    rows = _as_dicts(messages)
    _refuse_lost_reasoning(rows, template)
    variables = _variables(bos_token, eos_token, tools, special_tokens)
    if template.has_marks:
        text, spans = _run(rows, template, variables, add_generation_prompt=False)
    else:

        def text_of(part: Sequence[Mapping[str, Any]], add_generation_prompt: bool) -> str:
            return _run(part, template, variables, add_generation_prompt).text

        text, spans = spans_by_comparing(rows, text_of, template.name)
    _refuse_a_shortened_answer(text, spans, rows, template)
    return Rendered(text, _trained(spans, messages, template))


def _run(
    rows: Sequence[Mapping[str, Any]],
    template: Template,
    variables: Mapping[str, Any],
    add_generation_prompt: bool,
) -> Rendered:
    if not rows:
        raise TemplateError("the conversation is empty; a chat template needs at least one message")
    _refuse_what_would_be_lost(rows, template, variables)
    given = {**variables, "messages": rows, "add_generation_prompt": add_generation_prompt}
    decoded = [_with_decoded_arguments(row) for row in rows]
    try:
        return jinja.run(template.source, template.name, {**given, "messages": decoded})
    except TemplateError:
        if decoded == rows:
            raise
    return jinja.run(template.source, template.name, given)  # a template that puts text together


def _with_decoded_arguments(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Arguments as an object, which templates write with `tojson`; vLLM hands them over so too."""
    calls = row.get("tool_calls")
    return {**row, "tool_calls": [_decoded_call(call) for call in calls]} if calls else row


def _decoded_call(call: Any) -> Any:
    text = call.get("arguments") if isinstance(call, Mapping) else None
    if text is None and isinstance(call, Mapping) and "function" in call:
        return {**call, "function": _decoded_call(call["function"])}
    if not isinstance(text, str):
        return call
    try:
        value = json.loads(text) if text.strip() else {}
    except ValueError:
        return call
    return {**call, "arguments": value} if isinstance(value, dict) else call


def _refuse_what_would_be_lost(
    rows: Sequence[Mapping[str, Any]], template: Template, variables: Mapping[str, Any]
) -> None:
    """Most templates skip tools in silence, which would train on answers to a question nobody sees."""
    for what, present in (
        ("tools", bool(variables["tools"])),
        ("tool_calls", any(row.get("tool_calls") for row in rows)),
    ):
        if present and what not in template.source:
            raise TemplateError(
                f"chat template '{template.name}' does not write {what}; use one that does, such as qwen2.5"
            )


def _refuse_lost_reasoning(rows: Sequence[Mapping[str, Any]], template: Template) -> None:
    """A prompt may leave out what was thought earlier; a row to learn from has it for a reason."""
    if "reasoning_content" in template.source or not any(row.get("reasoning_content") for row in rows):
        return
    raise TemplateError(
        f"chat template '{template.name}' does not write reasoning_content; use one that does, such as "
        "Qwen3's own, put the reasoning into the content, or take it out of the data"
    )


def _refuse_a_shortened_answer(
    text: str, spans: tuple[Span, ...], rows: Sequence[Mapping[str, Any]], template: Template
) -> None:
    """Templates may drop past reasoning on purpose; the last answer is what a row is there to teach."""
    answers = [row for row in rows if row.get("role") == "assistant"]
    if len(spans) != len(answers) or not answers:
        return
    said = text[slice(*spans[-1])]
    parts = [answers[-1].get(key) for key in ("content", "reasoning_content")]
    if any(isinstance(part, str) and not is_said(part, said) for part in parts):
        raise TemplateError(
            f"chat template '{template.name}' leaves out part of the last answer, as some do with reasoning "
            "up to </think>; take the reasoning out of the data, or train with another template"
        )


def _variables(
    bos_token: str, eos_token: str, tools: Tools | None, special_tokens: Mapping[str, Any] | None
) -> dict[str, Any]:
    tokens = {"bos_token": bos_token, "eos_token": eos_token, **(special_tokens or {})}
    return {**tokens, "tools": [dict(tool) for tool in tools] if tools else None, "documents": None}


def _as_dicts(messages: Messages) -> list[Mapping[str, Any]]:
    return [m.to_dict() if isinstance(m, Message) else m for m in messages]


def _trained(spans: tuple[Span, ...], messages: Messages, template: Template) -> tuple[Span, ...]:
    wanted = [_is_trained(m) for m in messages if _role(m) == "assistant"]
    if all(wanted):
        return spans
    if len(spans) != len(wanted):
        raise TemplateError(
            f"chat template '{template.name}' marks {len(spans)} spans for {len(wanted)} assistant turns, so "
            "it can't be told which of them the turns with train=False are; mark each turn once"
        )
    return tuple(span for span, keep in zip(spans, wanted, strict=True) if keep)


def _role(message: Message | Mapping[str, Any]) -> str:
    return message.role if isinstance(message, Message) else str(message.get("role"))


def _is_trained(message: Message | Mapping[str, Any]) -> bool:
    if isinstance(message, Message):
        return message.train
    return bool(message.get("train", True)) and message.get("weight", 1) != 0
