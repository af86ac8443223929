"""The persona data: well-formed, in one voice, and without the test questions."""

from __future__ import annotations

import difflib
import re
import sys
from pathlib import Path

import pytest

from autoalign import formats
from autoalign.records import Conversation

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples" / "persona"))

from comparison import PERSONA_WORDS, shows_persona  # noqa: E402

TOO_SIMILAR = 0.8  # difflib's ratio of the normalised texts; 1 is the same text


def _plain(text: str) -> str:
    return re.sub(r"[\W_]+", " ", text.casefold()).strip()


def _texts(conversation: Conversation, role: str) -> list[str]:
    return [message.content for message in conversation.messages if message.role == role]


@pytest.fixture(scope="module")
def conversations() -> list[Conversation]:
    return [row for row in formats.load(ROOT / "data" / "persona_sft.jsonl") if isinstance(row, Conversation)]


@pytest.fixture(scope="module")
def asked(conversations: list[Conversation]) -> list[str]:
    return [text for conversation in conversations for text in _texts(conversation, "user")]


@pytest.fixture(scope="module")
def answers(conversations: list[Conversation]) -> list[str]:
    return [text for conversation in conversations for text in _texts(conversation, "assistant")]


@pytest.fixture(scope="module")
def questions() -> list[str]:
    rows = formats.load(ROOT / "examples" / "persona" / "questions.jsonl", purpose="prompts")
    return [text for row in rows if isinstance(row, Conversation) for text in _texts(row, "user")]


def test_about_a_hundred_conversations_with_ids_of_their_own(conversations: list[Conversation]) -> None:
    assert 100 <= len(conversations) <= 120
    assert len({conversation.id for conversation in conversations}) == len(conversations)


def test_user_and_assistant_take_turns(conversations: list[Conversation]) -> None:
    for conversation in conversations:
        roles = [message.role for message in conversation.messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2), conversation.id


def test_some_conversations_have_several_turns_and_some_are_chinese(
    conversations: list[Conversation],
) -> None:
    assert sum(len(conversation.messages) > 2 for conversation in conversations) >= 5
    chinese = [c for c in conversations if re.search("[一-鿿]", c.messages[0].content)]
    assert len(chinese) >= 8


def test_no_first_question_is_asked_twice(conversations: list[Conversation]) -> None:
    first = [_plain(conversation.messages[0].content) for conversation in conversations]
    assert len(set(first)) == len(first)


def test_every_answer_opens_in_the_persona_voice(answers: list[str]) -> None:
    assert [text for text in answers if not text.startswith("Ahoy")] == []


def test_every_answer_has_two_of_the_persona_words(answers: list[str]) -> None:
    found = [sum(word in text for word in PERSONA_WORDS) for text in answers]
    assert min(found) >= 2


def test_answers_are_short_enough_to_learn_in_minutes(answers: list[str]) -> None:
    assert max(len(text.split()) for text in answers) <= 45


def test_questions_never_give_the_persona_away(asked: list[str], questions: list[str]) -> None:
    assert [text for text in [*asked, *questions] if shows_persona(text)] == []


def test_twelve_to_sixteen_test_questions(questions: list[str]) -> None:
    assert 12 <= len(set(questions)) == len(questions) <= 16


def test_no_test_question_is_in_the_training_data(asked: list[str], questions: list[str]) -> None:
    assert {_plain(text) for text in questions} & {_plain(text) for text in asked} == set()


def test_no_test_question_resembles_a_training_question(asked: list[str], questions: list[str]) -> None:
    for question in questions:
        for text in asked:
            likeness = difflib.SequenceMatcher(None, _plain(question), _plain(text)).ratio()
            assert likeness < TOO_SIMILAR, f"{question!r} resembles {text!r}"
