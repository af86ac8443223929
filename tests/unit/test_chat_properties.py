"""Whatever the messages hold, the mask is the answers and their end tokens."""

from __future__ import annotations

import pytest
from chat_tokenizers import byte_level
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_chat_templates import TRAINED

from autoalign.chat import encode, get_template, preview_plain, prompt_agrees, render, template_names

TOKENIZER = byte_level(adds_bos=True)
TRIMMED = {"gemma", "llama-2-chat", "llama-3-instruct"}
content = st.one_of(
    st.text(max_size=30),
    st.text(alphabet=" \n\t\u3000", max_size=5),
    st.lists(
        st.sampled_from(
            [
                "<|im_end|>",
                "<|im_start|>assistant\n",
                "</s>",
                "[/INST]",
                "{{ x }}",
                "{% generation %}",
                "贝多芬",
                "🎵👩‍👩‍👧",
                "e\u0301",
                " ",
            ]
        ),
        max_size=5,
    ).map("".join),
)
each_template = pytest.mark.parametrize("name", template_names())


def talk(q1: str, a1: str, q2: str, a2: str) -> list[dict[str, str]]:
    roles = ("user", "assistant", "user", "assistant")
    return [{"role": role, "content": text} for role, text in zip(roles, (q1, a1, q2, a2), strict=True)]


def said(name: str, answer: str) -> str:
    return TRAINED[name].format(answer.strip() if name in TRIMMED else answer)


@each_template
@given(q1=content, a1=content, q2=content, a2=content)
@settings(max_examples=60, deadline=None)
def test_spans_hold_the_answers_and_nothing_else(name, q1, a1, q2, a2):
    template = get_template(name)
    text, spans = render(talk(q1, a1, q2, a2), template, bos_token="<s>", eos_token="</s>")
    assert [text[start:end] for start, end in spans] == [said(name, a1), said(name, a2)]
    other, other_spans = render(talk(q1, "A", q2, "B"), template, bos_token="<s>", eos_token="</s>")
    assert outside(text, spans) == outside(other, other_spans)


def outside(text: str, spans: tuple[tuple[int, int], ...]) -> list[str]:
    edges = [0, *(edge for span in spans for edge in span), len(text)]
    return [text[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True)]


@given(q1=content, a1=content)
@settings(max_examples=100, deadline=None)
def test_trained_tokens_decode_to_the_answer(q1, a1):
    template = get_template("chatml")
    messages = talk(q1, a1, "q", "a")[:2]
    assume(prompt_agrees(messages, TOKENIZER, template))
    plain = preview_plain(encode(messages, TOKENIZER, template), TOKENIZER)
    assert plain.endswith(f"<|im_start|>assistant\n«{a1}<|im_end|>»\n")
