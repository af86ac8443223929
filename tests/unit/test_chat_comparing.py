"""Templates without marks: spans found by comparing renderings, or refused."""

from __future__ import annotations

import re

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
