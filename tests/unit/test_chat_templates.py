"""Templates: what they render, found how, refused when."""

from __future__ import annotations

import json

import pytest

from autoalign.chat import get_template, render, render_text, template_names
from autoalign.errors import TemplateError
from autoalign.records import Message

TALK = [
    {"role": "user", "content": "q1"},
    {"role": "assistant", "content": "a1"},
    {"role": "user", "content": "q2"},
    {"role": "assistant", "content": "a2"},
]
# What an assistant turn reads with eos_token "</s>", worked out by hand from the models' documentation.
TRAINED = {
    "chatml": "{}<|im_end|>",
    "chatml-keep-system": "{}<|im_end|>",
    "chatml-with-empty-think": "{}<|im_end|>",
    "deepseek-v3": "{}<｜end▁of▁sentence｜>",
    "gemma": "{}<end_of_turn>",
    "glm-4-chat": "\n{}<|user|>",
    "llama-2-chat": " {} </s>",
    "llama-3-instruct": "{}<|eot_id|>",
    "mistral-instruct": " {}</s>",
    "qwen2.5": "{}<|im_end|>",
    "vicuna_v1.1": " {}</s>",
    "zephyr": "{}</s>",
}


def trained_text(messages, template):
    text, spans = render(messages, template, bos_token="<s>", eos_token="</s>")
    return [text[start:end] for start, end in spans]


def test_every_template_has_its_expectation_here():
    assert set(template_names()) == set(TRAINED)


@pytest.mark.parametrize("name", sorted(TRAINED))
def test_spans_are_the_answers_with_their_end_tokens(name):
    expected = [TRAINED[name].format("a1"), TRAINED[name].format("a2")]
    assert trained_text(TALK, get_template(name)) == expected


@pytest.mark.parametrize("name", sorted(set(TRAINED) - {"deepseek-v3"}))
def test_a_span_begins_where_the_generation_prompt_ends(name):
    template = get_template(name)
    text, spans = render(TALK, template, bos_token="<s>", eos_token="</s>")
    prompt = render_text(TALK[:3], template, add_generation_prompt=True, bos_token="<s>", eos_token="</s>")
    assert text[: spans[1][0]] == prompt


def test_deepseek_opens_a_think_block_in_prompts_alone():
    template = get_template("deepseek-v3")
    prompt = render_text(TALK[:1], template, add_generation_prompt=True)
    assert prompt == "<｜User｜>q1<｜Assistant｜><think>\n"
    assert render(TALK[:2], template).text == "<｜User｜>q1<｜Assistant｜>a1<｜end▁of▁sentence｜>"


def test_zephyr_as_published():
    text = render_text(
        [{"role": "system", "content": "s"}, *TALK[:1]],
        get_template("zephyr"),
        add_generation_prompt=True,
        eos_token="</s>",
    )
    assert text == "<|system|>\ns</s>\n<|user|>\nq1</s>\n<|assistant|>\n"


def test_glm_writes_the_marker_that_ends_a_turn_once():
    text = render(TALK, get_template("glm-4-chat")).text
    assert text == "[gMASK]<sop><|user|>\nq1<|assistant|>\na1<|user|>\nq2<|assistant|>\na2<|user|>"


def test_the_empty_think_block_belongs_to_the_prompt():
    template = get_template("chatml-with-empty-think")
    prompt = render_text(TALK[:1], template, add_generation_prompt=True)
    assert prompt == "<|im_start|>user\nq1<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    assert render(TALK[:2], template).text == prompt + "a1<|im_end|>\n"


def test_records_and_dicts_render_alike():
    records = [Message(role=row["role"], content=row["content"]) for row in TALK]
    template = get_template("chatml")
    assert render(records, template) == render(TALK, template)


@pytest.mark.parametrize("off", [{"train": False}, {"weight": 0}])
def test_a_turn_that_is_not_learned_from_has_no_span(off):
    messages = [TALK[0], {**TALK[1], **off}, *TALK[2:]]
    assert trained_text(messages, get_template("chatml")) == ["a2<|im_end|>"]


def test_marks_inside_a_macro_are_placed_right(tmp_path):
    path = tmp_path / "macro.jinja"
    path.write_text(
        "{% macro say(t) %}{% generation %}{{ t }}!{% endgeneration %}{% endmacro %}"
        "{% for m in messages %}[{{ say(m.content) if m.role == 'assistant' else m.content }}]{% endfor %}"
    )
    text, spans = render(TALK[:2], get_template(str(path)))
    assert (text, spans) == ("[q1][a1!]", ((5, 8),))


def test_qwen_tools_and_tool_calls():
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    messages = [
        TALK[0],
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "2"},
        TALK[3],
    ]
    tool = {"type": "function", "function": {"name": "add"}}
    text, spans = render(messages, get_template("qwen2.5"), tools=[tool])
    assert "<tools>\n" + json.dumps(tool) + "\n</tools>" in text
    assert text[slice(*spans[0])] == (
        '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call><|im_end|>'
    )
    assert "<|im_start|>user\n<tool_response>\n2\n</tool_response><|im_end|>\n" in text


CALLS = (
    "{% for m in messages %}{% generation %}{% for call in m.tool_calls %}ARGUMENTS{% endfor %}"
    "{% endgeneration %}{% endfor %}"
)


@pytest.mark.parametrize(
    ("arguments", "written", "said"),
    [
        ('{"a":1}', "{{ call.function.arguments | tojson }}", '{"a": 1}'),
        ({"a": 1}, "{{ call.function.arguments | tojson }}", '{"a": 1}'),
        ("", "{{ call.function.arguments | tojson }}", "{}"),
        ("[1]", "{{ call.function.arguments | tojson }}", '"[1]"'),
        ('{"a', "{{ call.function.arguments | tojson }}", '"{\\"a"'),
        ('{"a":1}', "{{ '(' + call.function.arguments + ')' }}", '({"a":1})'),
    ],
)
def test_arguments_that_are_json_text_are_written_once(tmp_path, arguments, written, said):
    """As vLLM does when it serves: an object for the template; text where it puts text together."""
    (tmp_path / "calls.jinja").write_text(CALLS.replace("ARGUMENTS", written))
    call = {"type": "function", "function": {"name": "add", "arguments": arguments}}
    messages = [Message("assistant", "", tool_calls=(call,))]
    assert trained_text(messages, get_template(str(tmp_path / "calls.jinja"))) == [said]
    assert call["function"]["arguments"] == arguments


def test_a_refusal_of_the_template_stands_beside_a_call():
    call = {"type": "function", "function": {"name": "add", "arguments": "{}"}}
    with pytest.raises(TemplateError, match="fails on this conversation"):
        render([{"role": "user", "content": 1, "tool_calls": [call]}], get_template("qwen2.5"))


def test_deepseek_tool_calls():
    call = {"type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    messages = [
        TALK[0],
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "2"},
        TALK[3],
    ]
    assert trained_text(messages, get_template("deepseek-v3")) == [
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>add\n```json\n"
        '{"a": 1}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜>',
        "a2<｜end▁of▁sentence｜>",
    ]


def test_tools_are_refused_where_the_template_would_drop_them():
    tool = {"type": "function", "function": {"name": "add"}}
    with pytest.raises(TemplateError, match=r"llama-3-instruct.*does not write tools"):
        render(TALK, get_template("llama-3-instruct"), tools=[tool])


@pytest.mark.parametrize("name", ["vicuna_v1.1", "zephyr", "gemma", "mistral-instruct", "llama-2-chat"])
def test_a_role_that_the_template_does_not_know_is_refused(name):
    messages = [*TALK, {"role": "tool", "content": "42"}]
    with pytest.raises(TemplateError, match=f"'{name}' refuses this conversation"):
        render(messages, get_template(name))


def test_an_unknown_name_lists_the_names_with_the_nearest():
    with pytest.raises(TemplateError, match=r"'vicuna' \(did you mean 'vicuna_v1.1'\?\); there are: "):
        get_template("vicuna")


@pytest.mark.parametrize("alias", ["llama-2-chat-keep-system", "glm-4-chat-keep-system"])
def test_names_of_the_upstream_toolkit_work(alias):
    assert get_template(alias).name == alias.removesuffix("-keep-system")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\xff\xfe", "UTF-8"),
        (b"{% for m in messages %}\n{{ m.content }", "line 2"),
    ],
)
def test_a_template_file_that_is_no_template(tmp_path, content, message):
    path = tmp_path / "mine.jinja"
    path.write_bytes(content)
    with pytest.raises(TemplateError, match=message):
        get_template(str(path))


def test_a_missing_template_file(tmp_path):
    with pytest.raises(TemplateError, match="no such chat template file"):
        get_template(str(tmp_path / "none.jinja"))


def test_a_template_cannot_reach_python(tmp_path):
    path = tmp_path / "evil.jinja"
    path.write_text("{{ messages.__class__.__mro__ }}{{ messages.append(1) }}")
    with pytest.raises(TemplateError, match="refuses"):
        render(TALK, get_template(str(path)))


def test_an_empty_conversation_is_refused():
    with pytest.raises(TemplateError, match="empty"):
        render([], get_template("chatml"))


def test_missing_content_is_named_as_the_templates_failure():
    with pytest.raises(TemplateError, match="'chatml' fails on this conversation: TypeError"):
        render([{"role": "user", "content": None}], get_template("chatml"))


def test_reasoning_that_the_template_would_drop_from_the_last_answer_is_refused():
    thinks = {"role": "assistant", "content": "<think>why</think>a"}
    with pytest.raises(TemplateError, match="leaves out part of the last answer"):
        render([TALK[0], thinks], get_template("deepseek-v3"))
    assert trained_text([TALK[0], thinks, *TALK[2:]], get_template("deepseek-v3"))[1].startswith("a2")


REASONED = Message("assistant", "4", reasoning="two twos")


def test_reasoning_beside_an_answer_is_trained_on_where_the_template_writes_it(tmp_path):
    path = tmp_path / "thinks.jinja"
    path.write_text(
        "{% for m in messages %}<{{ m.role }}>{% generation %}"
        "{% if m.reasoning_content %}({{ m.reasoning_content }}){% endif %}{{ m.content }}</s>"
        "{% endgeneration %}{% endfor %}"
    )
    text, spans = render([REASONED], get_template(str(path)))
    assert (text, spans) == ("<assistant>(two twos)4</s>", ((11, 26),))


def test_reasoning_beside_an_answer_is_not_lost_in_silence(tmp_path):
    with pytest.raises(TemplateError, match="'chatml' does not write reasoning_content"):
        render([TALK[0], REASONED, *TALK[2:]], get_template("chatml"))
    path = tmp_path / "forgets.jinja"
    path.write_text(
        "{# reasoning_content #}{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}"
        "{% endfor %}"
    )
    with pytest.raises(TemplateError, match="leaves out part of the last answer"):
        render([REASONED], get_template(str(path)))


def test_a_prompt_may_leave_out_earlier_reasoning():
    text = render_text([TALK[0], REASONED, TALK[2]], get_template("chatml"), add_generation_prompt=True)
    assert "<|im_start|>assistant\n4<|im_end|>\n" in text


def test_half_a_surrogate_pair_is_refused():
    with pytest.raises(TemplateError, match=r"surrogates not allowed"):
        render([{"role": "user", "content": "\ud83d"}], get_template("chatml"))


def test_the_digest_changes_with_the_text(tmp_path):
    path = tmp_path / "one.jinja"
    path.write_text("{{ messages }}")
    first = get_template(str(path)).digest
    path.write_text("{{ messages }}!")
    assert get_template(str(path)).digest != first
