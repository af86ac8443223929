"""Conversations on a scripted engine: who says what, with which seed, and where they end."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from autoalign.config.sample import InferConfig
from autoalign.errors import ConfigError
from autoalign.records import Message
from autoalign.sampling.engines.base import Completion, GenerationRequest, SamplingParams
from autoalign.sampling.messages import pack_task, unpack
from autoalign.sampling.prompts import PlainRenderer, Prompt
from autoalign.sampling.rows import RowMaker
from autoalign.sampling.setup import Setup, prepare_model
from autoalign.sampling.simulator import UserSimulator, simulator_of, spoken
from autoalign.sampling.turns import Dialogue, Place, Turn, Turns, messages_behind, turns_of
from autoalign.sampling.worker import EngineWorker, WorkerSpec


class Scripted:
    """Says its lines one after the other, and remembers what it was asked."""

    def __init__(self, *lines: str, reason: str = "stop") -> None:
        self.lines, self.reason, self.asked = list(lines), reason, list[GenerationRequest]()

    async def generate(self, request: GenerationRequest) -> Completion:
        self.asked.append(request)
        return Completion(self.lines.pop(0), self.reason, 10, 2)

    async def stream(self, request: GenerationRequest) -> AsyncIterator[str]:
        yield (await self.generate(request)).text

    async def close(self) -> None:
        """Nothing is held."""


class Counting(PlainRenderer):
    """A token a message."""

    def encode(self, messages: Sequence[Message], tools: Any = ()) -> list[int]:
        return list(range(len(messages)))


def talk(
    answers: Scripted, users: Scripted, count: int = 3, context: int | None = None, **values: Any
) -> list[Turn]:
    renderer = Counting()
    renderer.context = context
    user = UserSimulator(renderer, SamplingParams(), "({{ turn }}) {{ conversation }}", "A sailor.")
    example = ({"role": "user", "content": "e"}, {"role": "assistant", "content": "f"})
    prompt = Prompt(0, "p", (*example, {"role": "user", "content": "hello"}), (0,), examples=2)
    request = GenerationRequest("p-0", prompt.messages, prompt.token_ids, SamplingParams(), seed=1)
    turns = Turns(count, renderer, user, **values)
    return asyncio.run(Dialogue(turns, answers, users, Place(prompt, 4, 42)).run(request))


def test_answers_and_user_take_turns() -> None:
    said = talk(Scripted("a", "b", "c"), Scripted("x", "y"))
    told = [(m["role"], m["content"]) for m in messages_behind([turn.told() for turn in said])]
    roles = ["assistant", "user", "assistant", "user", "assistant"]
    assert told == list(zip(roles, "axbyc", strict=True))


def test_each_model_sees_the_conversation_so_far() -> None:
    """The examples are for the answers' model alone."""
    answers, users = Scripted("a", "b"), Scripted("x")
    talk(answers, users, count=2)
    assert [m["content"] for m in answers.asked[1].messages] == ["e", "f", "hello", "a", "x"]
    assert [m["content"] for m in users.asked[0].messages] == [
        "A sailor.",
        "(2) user: hello\n\nassistant: a",
    ]


def test_every_text_has_a_seed_of_its_own() -> None:
    """The first 31 bits of sha256(seed, prompt id, speaker, turn, index)."""
    answers, users = Scripted("a", "b"), Scripted("x")
    said = talk(answers, users, count=2)
    digest = [hashlib.sha256(f"42\0p\0{who}\0{1}\0{4}".encode()).digest() for who in ("user", "assistant")]
    expected = [int.from_bytes(each[:4], "big") % 2**31 for each in digest]
    assert [users.asked[0].seed, answers.asked[1].seed] == expected
    assert [turn.seed for turn in said] == [1, expected[1]]


@pytest.mark.parametrize(
    ("answers", "users", "context", "length"),
    [
        (Scripted("a", "b", reason="length"), Scripted("x"), None, 1),
        (Scripted("a", "b"), Scripted("  "), None, 1),
        (Scripted("a", "b", "c"), Scripted("x", "y"), 6, 2),
    ],
    ids=["an answer is cut off", "the user is silent", "the context is full"],
)
def test_a_conversation_ends_early(
    answers: Scripted, users: Scripted, context: int | None, length: int
) -> None:
    assert len(talk(answers, users, context=context)) == length


def test_reasoning_is_not_shown_to_later_turns() -> None:
    answers = Scripted("<think>hm</think>a", "b")
    said = talk(answers, Scripted("x"), count=2, split_reasoning=True)
    assert (said[0].text, said[0].reasoning) == ("a", "hm")
    assert answers.asked[1].messages[3]["content"] == "a"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (" User: Why? ", "Why?"),
        ('"Why?"', "Why?"),
        ("Why?\n\nassistant: Because.", "Why?"),
        ('He said "no".', 'He said "no".'),
        ("", ""),
    ],
)
def test_of_the_simulators_text_the_message_is_kept(text: str, message: str) -> None:
    assert spoken(text) == message


def config(**values: Any) -> InferConfig:
    return InferConfig.build({"test_file": "q", "model_name": "m", "backend": "openai", **values})


def simulator(**values: Any) -> UserSimulator:
    given = config(turns=2, **values)
    setup: Setup = prepare_model(given)
    return simulator_of(given, setup)


def test_the_user_is_played_by_the_answers_model_unless_another_is_named() -> None:
    assert simulator().options is None
    other = simulator(user_model="big", base_url="http://here/v1", user_temperature=1.5)
    assert other.options is not None
    assert (other.backend, other.options.model, other.options.base_url) == (
        "openai",
        "big",
        ("http://here/v1",),
    )
    assert other.params.temperature == 1.5


def test_a_prompt_that_asks_for_what_is_not_there(tmp_path: Path) -> None:
    file = tmp_path / "user.txt"
    file.write_text("{{ mood }}")
    with pytest.raises(ConfigError, match="'mood' is undefined; it has: conversation, turn"):
        simulator(user_prompt=str(file))


def test_a_user_without_turns_is_refused() -> None:
    with pytest.raises(ConfigError, match="'user_model' is for conversations: give --turns 2 or more"):
        config(user_model="big")


def test_a_workers_answer_is_the_whole_conversation() -> None:
    """On the fake engine, which says what it is asked: the last answer's text, the tokens of all, one row."""
    given = config(turns=2, temperature=1, max_new_tokens=500, backend="fake", model_path="m")
    setup = prepare_model(config(turns=2, temperature=1, max_new_tokens=500))
    spec = WorkerSpec("fake", setup.options, setup.params, 42, (), turns_of(given, setup))
    prompt = Prompt(0, "p", ({"role": "user", "content": "hello"},), ())
    table = pa.table({"task": pa.array([pack_task(0, [(prompt, [0])])], pa.binary())})
    (answer,) = [
        each for part in EngineWorker(spec)(table) for each in unpack(part["message"].to_pylist()[0]).answers
    ]
    row = RowMaker(given).row(prompt, answer, b"k")
    said = [message["content"] for message in row["messages"]]
    assert len(said) == 4 and said[0] == "hello" and row["text"] == said[-1]
    assert row["completion_tokens"] == sum(len(text.split()) for text in (said[1], said[3]))
    assert [turn["finish_reason"] for turn in row["turns"]] == ["stop", "stop"]
