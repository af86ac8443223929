"""Each format: its keys, what its example row means, what it refuses."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from autoalign.errors import DataError, UnknownName
from autoalign.formats import names
from autoalign.formats._records import taken_apart
from autoalign.formats._stream import detect
from autoalign.formats._types import get_format, short_name
from autoalign.records import Conversation, LabelledAnswer, Message, PreferencePair

FORMATS = names()
USER = Message("user", "Tell me about Beethoven.")


def docstring_rows(name: str) -> list[Any]:
    """The example rows that a format's docstring shows."""
    text, rows, end = get_format(name).__doc__ or "", [], 0
    while start := re.compile(r'^ *(?=\{")', re.MULTILINE).search(text, end):
        row, end = json.JSONDecoder().raw_decode(text, start.end())
        rows.append(row)
    return rows


def test_the_formats_are_found_by_their_file_names() -> None:
    sft = ["alpaca", "messages", "prompt_completion", "question_answer", "sharegpt"]
    preference = ["autoalign", "hh_rlhf", "openai_preference", "sharegpt_preference", "trl"]
    assert sorted([*sft, *preference, "trl_unpaired"]) == FORMATS


@pytest.mark.parametrize("name", FORMATS)
def test_a_docstring_example_is_detected_and_parsed(name: str) -> None:
    rows = docstring_rows(name)
    assert rows
    for row in rows:
        assert short_name(detect(row)) == name
        kinds = {"sft": Conversation, "preference": PreferencePair, "unpaired": LabelledAnswer}
        assert isinstance(get_format(name).parse(row), kinds[get_format(name).KIND])


@pytest.mark.parametrize("name", [n for n in FORMATS if get_format(n).KIND == "preference" and n != "trl"])
def test_every_preference_example_means_the_same_prompt(name: str) -> None:
    pair = get_format(name).parse(docstring_rows(name)[0])
    assert isinstance(pair, PreferencePair)
    assert pair.prompt == (USER,)
    assert [len(pair.chosen), len(pair.rejected)] == [1, 1]


def parsed(name: str, row: dict[str, Any]) -> Any:
    return get_format(name).parse(row)


def test_openai_weight_0_is_not_trained_on() -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello", "weight": 0}]
    assert [m.train for m in parsed("messages", {"messages": turns}).messages] == [True, False]


def test_an_answer_with_train_false_is_not_trained_on() -> None:
    turns = [{"role": "user", "content": "Hi"}, {"from": "gpt", "value": "Hello", "train": False}]
    assert [m.train for m in parsed("messages", {"messages": turns}).messages] == [True, False]
    turns[1]["train"] = "no"
    with pytest.raises(DataError, match="0 \\(not learned from\\) or 1") as caught:
        parsed("messages", {"messages": turns})
    assert caught.value.field == "messages[1].train"


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_beside_an_answer_is_kept_and_written_back(key: str) -> None:
    answer = {"role": "assistant", "content": "4"}
    turns = [{"role": "user", "content": "2 + 2?"}, {**answer, "reasoning_content": "", key: "two twos"}]
    record = parsed("messages", {"messages": turns})
    assert record.messages[1] == Message("assistant", "4", reasoning="two twos")
    assert get_format("messages").dump(record)["messages"][1] == {**answer, "reasoning_content": "two twos"}


def test_openai_tools_and_calls_are_kept() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    turns = [
        {"role": "user", "content": "2+3?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "5"},
    ]
    tools = [{"type": "function", "function": {"name": "add"}}]
    record = parsed("messages", {"messages": turns, "tools": tools})
    assert record.tools == tuple(tools)
    assert record.messages[1:] == (
        Message("assistant", "", tool_calls=(call,)),
        Message("tool", "5", tool_call_id="c1"),
    )


TOOLS = ({"type": "function", "function": {"name": "add"}},)


@pytest.mark.parametrize("name", [name for name in FORMATS if get_format(name).KIND == "preference"])
def test_the_tools_of_a_pair_are_kept_in_its_parts_and_written_back(name: str) -> None:
    pair = parsed(name, {**docstring_rows(name)[0], "tools": json.dumps(TOOLS)})
    assert pair.tools == TOOLS and "tools" not in pair.extra
    assert [answer.tools for answer in taken_apart(pair)] == [TOOLS, TOOLS]
    assert parsed(name, get_format(name).dump(pair)) == pair


def test_text_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    assert (
        parsed("messages", {"messages": [{"role": "user", "content": parts}]}).messages[0].content == "Hello"
    )


def test_a_picture_part_is_refused_with_its_place() -> None:
    row = {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}
    with pytest.raises(DataError, match="type 'image_url'; only 'text'") as caught:
        parsed("messages", row)
    assert caught.value.field == "messages[0].content[0]"


@pytest.mark.parametrize(
    ("name", "role"),
    [("human", "user"), ("chatgpt", "assistant"), ("observation", "tool"), ("developer", "system")],
)
def test_sharegpt_speakers(name: str, role: str) -> None:
    assert parsed("sharegpt", {"conversations": [{"from": name, "value": "x"}]}).messages[0].role == role


def test_a_sharegpt_function_call_becomes_a_tool_call() -> None:
    turns = [{"from": "function_call", "value": '{"name": "add", "arguments": {"a": 2}}'}]
    (message,) = parsed("sharegpt", {"conversations": turns}).messages
    assert message.tool_calls == ({"type": "function", "function": {"name": "add", "arguments": {"a": 2}}},)


def test_a_sharegpt_system_key_comes_first() -> None:
    row = {"system": "Be brief.", "conversations": [{"from": "human", "value": "Hi"}]}
    assert parsed("sharegpt", row).messages == (Message("system", "Be brief."), Message("user", "Hi"))


def test_an_unknown_role_names_the_nearest() -> None:
    row = {"conversations": [{"from": "human", "value": "x"}, {"from": "asistant", "value": "y"}]}
    with pytest.raises(DataError, match=r"unknown role 'asistant' \(did you mean 'assistant'") as caught:
        parsed("sharegpt", row)
    assert caught.value.field == "conversations[1].from"


def test_alpaca_joins_instruction_and_input_and_reads_history() -> None:
    row = {"instruction": "Add", "input": "2 3", "output": "5", "history": [["Hi", "Hello"]], "system": "S"}
    roles_and_texts = [(m.role, m.content) for m in parsed("alpaca", row).messages]
    assert roles_and_texts == [
        ("system", "S"),
        ("user", "Hi"),
        ("assistant", "Hello"),
        ("user", "Add\n2 3"),
        ("assistant", "5"),
    ]


def test_the_prompt_of_a_prompt_completion_row_is_not_trained_on() -> None:
    prompt = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    row = {"prompt": [*prompt, {"role": "user", "content": "c"}], "completion": "d"}
    assert [m.train for m in parsed("prompt_completion", row).messages] == [True, False, True, True]


def test_trl_without_prompt_takes_the_shared_beginning() -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    ask = {"role": "user", "content": "c"}
    row = {
        "chosen": [*turns, ask, {"role": "assistant", "content": "good"}],
        "rejected": [*turns, ask, {"role": "assistant", "content": "bad"}],
    }
    pair = parsed("trl", row)
    assert [m.content for m in pair.prompt] == ["a", "b", "c"]
    assert (pair.chosen[0].content, pair.rejected[0].content) == ("good", "bad")


def test_an_autoalign_prompt_that_both_sides_do_not_begin_with_is_refused() -> None:
    row = docstring_rows("autoalign")[0] | {"prompt": "Tell me about Bach."}
    with pytest.raises(DataError, match="begin with") as caught:
        parsed("autoalign", row)
    assert caught.value.field == "prompt"


def test_autoalign_answers_alone_follow_the_prompt() -> None:
    row = {
        "prompt": "Hi",
        "chosen": [{"from": "gpt", "value": "a"}],
        "rejected": [{"from": "gpt", "value": "b"}],
    }
    assert parsed("autoalign", row).prompt == (Message("user", "Hi"),)


def test_pairs_that_part_at_a_question_keep_both_ends() -> None:
    row = {
        "chosen": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d",
        "rejected": "\n\nHuman: a\n\nAssistant: b\n\nHuman: x\n\nAssistant: y",
    }
    pair = parsed("hh_rlhf", row)
    assert [m.content for m in pair.prompt] == ["a"]
    assert [m.content for m in pair.rejected] == ["b", "x", "y"]


def test_of_labelled_messages_the_turns_after_the_last_question_are_the_answer() -> None:
    turns = [("user", "2+3?"), ("assistant", "5"), ("user", "And 2+4?"), ("assistant", "6")]
    messages = [{"role": role, "content": text} for role, text in turns]
    record = parsed("trl_unpaired", {"messages": messages, "label": "False"})
    assert (len(record.prompt), record.completion, record.label) == (3, (Message("assistant", "6"),), False)


def test_a_label_that_is_no_truth_value_is_a_key_like_others() -> None:
    row = {"prompt": "2+3?", "completion": "5", "label": "arithmetic"}
    assert short_name(detect(row)) == "prompt_completion"
    with pytest.raises(DataError, match="label: true or false is expected, found text"):
        parsed("trl_unpaired", row)


def test_keys_of_no_format_list_the_formats() -> None:
    with pytest.raises(DataError, match=r"no format has the keys Body, Question; .*alpaca.*trl"):
        detect({"Body": "", "Question": ""})


def test_keys_of_two_formats_ask_for_a_name() -> None:
    with pytest.raises(DataError, match="fit messages and sharegpt; name one with --format"):
        detect({"messages": [], "conversations": []})


def test_an_unknown_format_lists_the_names() -> None:
    with pytest.raises(UnknownName, match=r"did you mean 'sharegpt'.*there are: alpaca"):
        get_format("sharegtp")


def test_a_format_refuses_what_it_cannot_hold() -> None:
    long = Conversation("", (USER, Message("assistant", "a"), USER, Message("assistant", "b")))
    with pytest.raises(DataError, match="one question and one answer"):
        get_format("question_answer").dump(long)
    with pytest.raises(DataError, match="last answer alone"):
        get_format("prompt_completion").dump(long)
