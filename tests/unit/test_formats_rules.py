"""Rows that cannot be trained on, each with its field and reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from autoalign.errors import DataError
from autoalign.formats import load

U, A, S = ({"from": name, "value": text} for name, text in (("human", "q"), ("gpt", "a"), ("system", "s")))


def problem(tmp_path: Path, row: Any, purpose: Any = "train") -> DataError:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        load(path, purpose=purpose)
    assert (caught.value.file, caught.value.line) == (str(path), 1)
    return caught.value


@pytest.mark.parametrize(
    ("turns", "field", "message"),
    [
        ([U, {"from": "robot", "value": "x"}], "conversations[1].from", "unknown role 'robot'"),
        ([{"value": "x"}], "conversations[0].role", "no speaker"),
        ([U, U, A], "conversations[1]", "two user turns in a row"),
        ([U, A, A], "conversations[2]", "two assistant turns in a row"),
        ([U, S, A], "conversations[1]", "the system message must come first"),
        ([{"from": "human", "value": " \n"}, A], "conversations[0]", "the user turn is empty"),
        ([U, {"from": "gpt", "value": ""}], "conversations[1]", "the answer is empty"),
        ([U], "conversations", "no answer to train on"),
        ([], "conversations", "no answer to train on"),
        ([U, {**A, "weight": 0}], "conversations", "its answers all have weight 0"),
        ([U, {**A, "weight": 0.5}], "conversations[1].weight", "0 (not learned from) or 1 is expected"),
        ([U, {"from": "gpt", "value": 7}], "conversations[1].value", "text is expected, found a number (7)"),
        ([U, "a"], "conversations[1]", "a turn (an object) is expected, found text"),
        ("hello", "conversations", "a list of turns is expected, found text"),
    ],
)
def test_a_bad_conversation(tmp_path: Path, turns: Any, field: str, message: str) -> None:
    found = problem(tmp_path, {"conversations": turns})
    assert found.field == field
    assert message in found.message


def test_a_field_is_counted_in_the_row_not_in_the_record(tmp_path: Path) -> None:
    row = {"system": "s", "conversations": [U, A, A]}
    assert problem(tmp_path, row).field == "conversations[2]"


def pair(chosen: Any, rejected: Any) -> dict[str, Any]:
    return {"conversations": [U], "chosen": chosen, "rejected": rejected}


@pytest.mark.parametrize(
    ("row", "field", "message"),
    [
        (pair(A, A), "rejected", "chosen and rejected are equal"),
        (pair([], A), "chosen", "the answer is empty"),
        (pair(A, {"from": "gpt", "value": "  "}), "rejected", "the answer is empty"),
        (pair([A, U], {"from": "gpt", "value": "b"}), "chosen[1]", "ends with an assistant turn, found user"),
        ({"conversations": [S], "chosen": A, "rejected": A}, "conversations", "asks nothing"),
        ({"prompt": "q", "chosen": "a", "rejected": None}, "rejected", "found nothing"),
        ({"chosen": "Hello", "rejected": "Bye"}, "chosen", "a transcript that begins with"),
    ],
)
def test_a_bad_pair(tmp_path: Path, row: Any, field: str, message: str) -> None:
    found = problem(tmp_path, row)
    assert found.field == field
    assert message in found.message


def test_a_turn_of_a_pair_that_repeats_the_prompt_is_counted_from_the_row(tmp_path: Path) -> None:
    chosen = [U, A, {"from": "gpt", "value": "again"}]
    row = {"prompt": "q", "chosen": chosen, "rejected": [U, {"from": "gpt", "value": "b"}]}
    assert problem(tmp_path, row).field == "chosen[2]"


def test_a_row_that_is_no_object(tmp_path: Path) -> None:
    assert "must be an object, found a number (3)" in problem(tmp_path, 3).message


def test_a_prompt_must_ask_something(tmp_path: Path) -> None:
    assert "nothing to answer" in problem(tmp_path, {"conversations": [S, A]}, "prompts").message


def test_a_tool_call_may_say_nothing(tmp_path: Path) -> None:
    call = {"from": "function_call", "value": '{"name": "f"}'}
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"conversations": [U, call, {"from": "observation", "value": "1"}, A]}))
    assert len(load(path).conversations[0].messages) == 4
