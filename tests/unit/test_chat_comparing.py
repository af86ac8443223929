"""Templates without marks: spans found by comparing renderings, or refused."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from autoalign.chat import Template, get_template, render, template_names
from autoalign.errors import TemplateError

TALK = [
    {"role": "user", "content": "q1"},
    {"role": "assistant", "content": "an answer\nwith two lines"},
    {"role": "user", "content": "q2"},
    {"role": "assistant", "content": "  spaces around  "},
]
BARE = "{% for m in messages %}{{ m.role }}: {{ m.content }}"
PROMPT = "{% if add_generation_prompt %}assistant: {% endif %}"


def unmarked(source: str) -> str:
    return re.sub(r"\{% (end)?generation %\}", "", source)


@pytest.mark.parametrize("name", sorted(set(template_names()) - {"deepseek-v3"}))
def test_comparing_finds_what_the_marks_say(name):
    marked = get_template(name)
    bare = Template(name="bare", source=unmarked(marked.source))
    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    assert not bare.has_marks
    assert render(TALK, bare, **tokens) == render(TALK, marked, **tokens)


def test_a_turn_that_is_not_learned_from_has_no_span():
    bare = Template(name="bare", source=unmarked(get_template("chatml").source))
    text, spans = render([TALK[0], {**TALK[1], "train": False}, *TALK[2:]], bare)
    assert [text[a:b] for a, b in spans] == ["  spaces around  <|im_end|>"]


def test_an_answer_that_holds_the_marker_ends_at_its_own():
    bare = Template(name="bare", source=unmarked(get_template("chatml").source))
    text, spans = render([TALK[0], {"role": "assistant", "content": "say <|im_end|>\nok"}], bare)
    assert [text[a:b] for a, b in spans] == ["say <|im_end|>\nok<|im_end|>"]


def test_thinking_that_only_the_last_answer_shows():
    """Qwen3's way: an empty think block before the last answer, none before earlier ones."""
    source = (
        "{% for m in messages %}<{{ m.role }}>"
        "{% if loop.last and m.role == 'assistant' %}<think></think>{% endif %}{{ m.content }}</t>\n"
        "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    text, spans = render(
        [TALK[0], {"role": "assistant", "content": "a1"}, TALK[2], {"role": "assistant", "content": "a2"}],
        Template("thinks", source),
    )
    assert [text[a:b] for a, b in spans] == ["a1</t>", "<think></think>a2</t>"]


QWEN3 = (
    "{% set asked = messages | map(attribute='role') | list %}{% set ns = namespace(query=0) %}"
    "{% for role in asked %}{% if role == 'user' %}{% set ns.query = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}<{{ m.role }}>"
    "{% if m.role == 'assistant' %}"
    "{% set thought = m.content.split('</think>')[0].split('<think>')[1:] | join %}"
    "{% if loop.index0 > ns.query and (loop.last or thought) %}<think>{{ thought }}</think>{% endif %}"
    "{{ m.content.split('</think>')[-1] }}{% for call in m.tool_calls %}[{{ call.name }}]{% endfor %}"
    "{% else %}{{ m.content }}{% endif %}</t>\n"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
"""Qwen3's way in short: thoughts stand after the last question alone, empty ones in last place alone."""


def spoken(messages, source=QWEN3):
    text, spans = render(messages, Template("thinks", source))
    return [text[start:end] for start, end in spans]


def test_a_call_before_its_result_has_no_empty_thought():
    call = {"role": "assistant", "content": "", "tool_calls": [{"name": "add"}]}
    messages = [TALK[0], call, {"role": "tool", "content": "5"}, {"role": "assistant", "content": "a"}]
    assert spoken(messages) == ["[add]</t>", "<think></think>a</t>"]


def test_thoughts_of_earlier_rounds_are_left_out_as_the_template_intends():
    first, second = ({"role": "assistant", "content": f"<think>t{n}</think>a{n}"} for n in (1, 2))
    assert spoken([TALK[0], first, TALK[2], second]) == ["a1</t>", "<think>t2</think>a2</t>"]


def test_qwen3s_own_template_takes_calls_and_thoughts():
    """Its text as trl ships it; an answer is written after the line break behind `assistant`."""
    trl = importlib.util.find_spec("trl")
    if trl is None or not trl.submodule_search_locations:
        pytest.skip("trl has Qwen3's template")
    path = Path(trl.submodule_search_locations[0]) / "chat_templates/qwen3.jinja"
    if not path.is_file():
        pytest.skip("this trl has no chat templates")
    source = path.read_text()
    call = {"type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}
    called = [{"role": "assistant", "content": "", "tool_calls": [call]}, {"role": "tool", "content": "5"}]
    assert spoken([TALK[0], *called, {"role": "assistant", "content": "a"}], source) == [
        '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call><|im_end|>',
        "<think>\n\n</think>\n\na<|im_end|>",
    ]
    first, second = ({"role": "assistant", "content": f"<think>t{n}</think>a{n}"} for n in (1, 2))
    thought = ["a1<|im_end|>", "<think>\nt2\n</think>\n\na2<|im_end|>"]
    assert spoken([TALK[0], first, TALK[2], second], source) == thought
    beside = {"role": "assistant", "content": "a2", "reasoning_content": "t2"}
    assert spoken([TALK[0], first, TALK[2], beside], source) == thought


def test_a_call_that_holds_the_marker_is_refused():
    call = {"role": "assistant", "content": "", "tool_calls": [{"name": "</t>"}]}
    with pytest.raises(TemplateError, match="message 1 is not written as it was given"):
        spoken([TALK[0], call, {"role": "tool", "content": "5"}, {"role": "assistant", "content": "a"}])


def test_an_earlier_answer_that_the_template_changes_is_refused():
    source = QWEN3.replace("{{ m.content.split('</think>')[-1] }}", "{{ m.content if loop.last }}")
    with pytest.raises(TemplateError, match="message 1 is not written as it was given"):
        spoken([TALK[0], {"role": "assistant", "content": "a1"}, *TALK[2:]], source)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (BARE + "\n{% endfor %}" + PROMPT, "not one end-of-turn marker"),
        (BARE + " <end> <footer>{% endfor %}" + PROMPT, "not one end-of-turn marker"),
        (
            BARE + "<end>{% endfor %}{% if add_generation_prompt %}model: {% endif %}",
            "not how the",
        ),
        (
            "{{ messages | length }}" + BARE + "<end>{% endfor %}" + PROMPT,
            "not how the",
        ),
        (
            "{% for m in messages %}{{ m.role }}: {{ m.content | replace('two', '2') }}<end>{% endfor %}"
            + PROMPT,
            "not written as it was given",
        ),
    ],
)
def test_an_ambiguous_template_is_refused_with_what_to_do(source, why):
    with pytest.raises(TemplateError, match=f"{why}.*generation.*--conv_template_name"):
        render(TALK, Template("odd", source))


def test_a_conversation_that_opens_with_an_answer_is_refused():
    bare = Template(name="bare", source=unmarked(get_template("chatml").source))
    with pytest.raises(TemplateError, match="begins with an assistant turn"):
        render(TALK[1:2], bare)
