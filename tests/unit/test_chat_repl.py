"""The chat in the terminal: its state, its commands, and what it prints, with scripted answers."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from autoalign.cli.chat import Repl
from autoalign.records import Message
from autoalign.sampling.conversation import ChatError, ChatSession, parse_command
from autoalign.sampling.engines.base import RequestFailed


def told(session: ChatSession) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in session.messages]


def after_one_turn() -> ChatSession:
    session = ChatSession("Be brief.")
    session.ask("Hi")
    session.answered("Hello")
    return session


def test_the_system_message_comes_first() -> None:
    assert told(after_one_turn()) == [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello")]


def test_reset_keeps_the_system_message() -> None:
    session = after_one_turn()
    session.reset()
    assert told(session) == [("system", "Be brief.")]


def test_undo_takes_back_question_and_answer() -> None:
    session = after_one_turn()
    session.ask("And?")
    session.answered("Bye")
    session.undo()
    assert told(session)[1:] == [("user", "Hi"), ("assistant", "Hello")]


def test_regenerate_leaves_the_question_and_counts_the_try() -> None:
    session = after_one_turn()
    session.regenerate()
    assert told(session)[1:] == [("user", "Hi")]
    assert session.tries == 1


def test_another_system_message_starts_over() -> None:
    session = after_one_turn()
    session.set_system("")
    assert session.messages == ()


@pytest.mark.parametrize("change", [ChatSession.undo, ChatSession.regenerate])
def test_nothing_said_yet_is_an_error(change: Callable[[ChatSession], None]) -> None:
    with pytest.raises(ChatError, match="nothing"):
        change(ChatSession())


def test_save_appends_a_sharegpt_row(tmp_path: Path) -> None:
    file = tmp_path / "talk.jsonl"
    after_one_turn().save(file)
    after_one_turn().save(file)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(rows) == 2
    assert rows[0]["conversations"][1:] == [
        {"from": "human", "value": "Hi"},
        {"from": "gpt", "value": "Hello"},
    ]


def test_save_overwrites_no_json_file(tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    file.write_text("mine")
    with pytest.raises(ChatError, match="exists already"):
        after_one_turn().save(file)
    assert file.read_text() == "mine"


def test_a_line_without_a_slash_is_no_command() -> None:
    assert parse_command("what is 1/2?") is None
    assert parse_command("/system You are  kind. ") == ("/system", "You are  kind.")


def test_an_unknown_command_names_the_nearest() -> None:
    with pytest.raises(ChatError, match="/regen"):
        parse_command("/regne")


def test_piped_lines_are_answered_in_turn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("one\n\ntwo\n/exit\nthree\n"))
    session = ChatSession()
    assert Repl(session, echo).run() == 0
    assert capsys.readouterr().out == "you said one\nyou said two\n"
    assert session.turns[-1] == Message("assistant", "you said two")


def test_a_question_without_an_answer_is_forgotten_and_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("one\n"))
    session = ChatSession()
    assert Repl(session, broken).run() == 1
    assert session.turns == []
    assert capsys.readouterr().err == "error: out of ink\n"


def echo(session: ChatSession) -> Iterator[str]:
    yield "you said "
    yield session.turns[-1].content


def broken(session: ChatSession) -> Iterator[str]:
    raise RequestFailed("out of ink")
    yield ""
