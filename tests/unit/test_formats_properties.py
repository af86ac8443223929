"""What holds for any record and any bytes: round trips, and no surprise from broken files."""

from __future__ import annotations

import dataclasses
import gzip
import tempfile
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoalign.errors import InputError
from autoalign.formats import load, names
from autoalign.formats._stream import detect
from autoalign.formats._types import get_format, short_name
from autoalign.records import Conversation, LabelledAnswer, Message, PreferencePair

words = st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip)
extras = st.dictionaries(st.sampled_from(["topic", "difficulty"]), st.integers(0, 9) | words)
ids = st.sampled_from(["", "0", "row-1", "行"])
calls = st.builds(
    lambda name: ({"id": "c", "type": "function", "function": {"name": name, "arguments": "{}"}},), words
)


def plain(role: Any) -> st.SearchStrategy[Message]:
    return st.builds(Message, st.just(role), words)


@st.composite
def rich_turns(draw: st.DrawFn) -> tuple[Message, ...]:
    """What only the two formats with turns hold: systems, names, tools, untrained answers."""
    turns = [Message("system", draw(words))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        turns.append(Message("user", draw(words), name=draw(st.none() | words)))
        if draw(st.booleans()):
            turns.append(Message("assistant", "", tool_calls=draw(calls)))
            turns.append(Message("tool", draw(words), tool_call_id="c"))
        reasoning = draw(st.none() | words)
        turns.append(Message("assistant", draw(words), train=draw(st.booleans()), reasoning=reasoning))
    return tuple(turns)


@st.composite
def alternating(draw: st.DrawFn, most: int = 3, system: bool = True) -> tuple[Message, ...]:
    turns = [Message("system", draw(words))] if system and draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, most))):
        turns += [draw(plain("user")), draw(plain("assistant"))]
    return tuple(turns[: len(turns) - draw(st.integers(0, 1))])


@st.composite
def last_answer_trained(draw: st.DrawFn) -> tuple[Message, ...]:
    turns = draw(alternating())
    given_part = [dataclasses.replace(m, train=m.role != "assistant") for m in turns[:-1]]
    return (*given_part, turns[-1])


def pairs(prompt: st.SearchStrategy[tuple[Message, ...]], text: st.SearchStrategy[str]) -> Any:
    """A prompt that ends with a question; answers that differ from the first turn on."""
    answers = st.lists(st.builds(Message, st.just("assistant"), text), min_size=2, max_size=2, unique=True)
    return st.builds(
        lambda name, turns, both, margin, extra: PreferencePair(
            name,
            turns[:-1] if turns[-1].role == "assistant" else turns,
            (both[0],),
            (both[1],),
            margin=margin,
            extra=extra,
        ),
        ids,
        prompt,
        answers,
        st.none() | st.floats(-9, 9),
        extras,
    )


# HH-RLHF's transcripts are stripped, and a text cannot hold a speaker's mark.
stripped = words.map(str.strip).filter(lambda text: "Human:" not in text and "Assistant:" not in text)
transcript = alternating(system=False).map(
    lambda turns: tuple(Message(m.role, m.content.strip() or "x") for m in turns)
)
CONVERSATIONS = {
    "sharegpt": rich_turns(),
    "messages": rich_turns(),
    "alpaca": alternating(),
    "prompt_completion": last_answer_trained(),
    "question_answer": alternating(most=1, system=False),
}
RECORDS = {
    name: st.builds(Conversation, ids, turns, extra=extras) for name, turns in CONVERSATIONS.items()
} | {
    name: pairs(alternating(), words)
    for name in ("autoalign", "sharegpt_preference", "openai_preference", "trl")
}
RECORDS["trl_unpaired"] = st.builds(
    lambda pair, label: LabelledAnswer(pair.id, pair.prompt, pair.chosen, label, extra=pair.extra),
    pairs(alternating(), words),
    st.booleans(),
)
RECORDS["hh_rlhf"] = pairs(transcript, stripped)


def test_every_format_has_a_round_trip() -> None:
    assert sorted(RECORDS) == names()


@pytest.mark.parametrize("name", sorted(RECORDS))
@given(data=st.data())
def test_parse_undoes_dump(name: str, data: st.DataObject) -> None:
    record = data.draw(RECORDS[name])
    format_: Any = get_format(name)
    row = orjson.loads(orjson.dumps(format_.dump(record)))
    assert format_.parse(row) == record
    assert short_name(detect(row)) == name


GOOD = b'{"question": "What is 2 + 3?", "answer": "5"}\n' * 3
ARRAY = b"[" + b",\n".join(GOOD.splitlines()) + b"]"
CSV = 'question,answer\n"What, is ""2"" + 3?",5\n中,文\n'.encode()
CHANGES = st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=3), st.integers(0, 3)), max_size=4)


def mangled(content: bytes, changes: list[tuple[int, bytes, int]]) -> bytes:
    for place, inserted, removed in changes:
        place %= len(content) + 1
        content = content[:place] + inserted + content[place + removed :]
    return content


def load_bytes(name: str, content: bytes, purpose: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(content)
        try:
            load(path, purpose=purpose)
        except InputError as error:
            assert str(error)


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.jsonl", GOOD), ("a.json", ARRAY), ("a.csv", CSV), ("a.jsonl.gz", gzip.compress(GOOD, mtime=0))],
)
@given(changes=CHANGES, purpose=st.sampled_from(["train", "prompts"]))
def test_a_mangled_file_is_read_or_refused(name: str, content: bytes, changes: Any, purpose: Any) -> None:
    load_bytes(name, mangled(content, changes), purpose)


@given(st.binary(max_size=80), st.sampled_from(["a.jsonl", "a.json", "a.csv", "a.json.gz", "a.parquet"]))
def test_any_bytes_are_read_or_refused(content: bytes, name: str) -> None:
    load_bytes(name, content, "train")


WORDS = """
    conversations messages instruction input output history system prompt completion question answer chosen
    rejected preferred_output tools id margin from value role content weight tool_calls type text name
"""
KEYS = WORDS.split()
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2) | st.sampled_from(["", "a", "human", "gpt", "user", "[]"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(json_values, max_size=3), st.sampled_from(["train", "prompts"]))
def test_any_json_is_read_or_refused(rows: list[Any], purpose: str) -> None:
    load_bytes("a.json", orjson.dumps(rows), purpose)


@pytest.mark.parametrize("name", sorted(RECORDS))
@given(data=st.data())
def test_a_named_format_reads_or_refuses_any_object(name: str, data: st.DataObject) -> None:
    row = data.draw(st.dictionaries(st.sampled_from(KEYS), json_values, max_size=5))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.jsonl")
        path.write_bytes(orjson.dumps(row))
        try:
            load(path, format=name)
        except InputError as error:
            assert str(error)
