"""`data browse`: keys from a script, pages on a recorded console."""

from __future__ import annotations

import io
import json
import os
import pty
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from autoalign.cli.data import _row_window
from autoalign.cli.data._keys import TerminalKeys
from autoalign.cli.data._row_window import RowWindow
from autoalign.cli.data.browse import Browser
from autoalign.cli.main import main
from autoalign.errors import DataError

ROOT = Path(__file__).resolve().parents[2]


class Script:
    """Keys and typed lines, in order."""

    def __init__(self, *keys: str, lines: tuple[str, ...] = ()) -> None:
        self._keys, self._lines = list(keys), list(lines)

    def key(self) -> str:
        return self._keys.pop(0) if self._keys else ""

    def line(self, prompt: str) -> str:
        return self._lines.pop(0)


def write(path: Path, *rows: Any) -> str:
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)


def questions(path: Path, count: int) -> str:
    return write(path, *({"question": f"Q{i}", "answer": f"A{i}"} for i in range(1, count + 1)))


def pages(
    file: str, *keys: str, lines: tuple[str, ...] = (), start: int = 1, search: str | None = None, **size: int
) -> list[str]:
    """What each page shows."""
    shape = {"width": 200, "height": 30, **size}
    console = Console(record=True, file=io.StringIO(), highlight=False, force_terminal=True, **shape)  # type: ignore[arg-type]
    shown: list[str] = []
    console.clear = lambda home=True: None  # type: ignore[method-assign]
    browser = Browser(RowWindow(file), console, Namespace(start=start, search=search, format=None))
    show = browser._show

    def noted() -> None:
        show()
        shown.append(console.export_text())

    browser._show = noted  # type: ignore[method-assign]
    browser.run(Script(*keys, lines=lines))
    return shown


def numbers(shown: list[str]) -> list[int]:
    """The rows that the pages are of, by their titles."""
    return [int(text.split("row ")[1].split()[0].replace(",", "")) for text in shown]


def test_keys_turn_the_pages(tmp_path):
    file = questions(tmp_path / "q.jsonl", 5)
    assert numbers(pages(file, " ", "n", "right", "p", "left", "q", "n")) == [1, 2, 3, 4, 3, 2]


def test_g_goes_to_a_row_and_says_where_there_is_none(tmp_path):
    file = questions(tmp_path / "q.jsonl", 5)
    shown = pages(file, "g", "g", "g", "p", lines=("4", "9", "x"))
    assert numbers(shown) == [1, 4, 4, 4, 3]
    assert "there are 5 rows" in shown[2]
    assert "'x' is no row's number" in shown[3]


def test_the_ends_of_the_file_are_said(tmp_path):
    first, back, last, on = pages(questions(tmp_path / "q.jsonl", 2), "p", "n", "n")
    assert "this is the first row" in back
    assert "this is the last row" in on
    assert numbers([first, back, last, on]) == [1, 1, 2, 2]


def test_search_finds_the_next_row_and_enter_alone_the_one_after(tmp_path):
    rows = [{"question": f"Q{i}", "answer": "Even" if i % 2 == 0 else "Odd"} for i in range(1, 6)]
    shown = pages(write(tmp_path / "q.jsonl", *rows), "/", "/", "/", lines=("even", "", ""))
    assert numbers(shown) == [1, 2, 4, 4]
    assert "no row from 5 on holds 'even'" in shown[3]


def test_it_may_start_at_a_row_or_at_a_text(tmp_path):
    file = questions(tmp_path / "q.jsonl", 9)
    assert numbers(pages(file, start=7)) == [7]
    assert numbers(pages(file, search="A8")) == [8]
    with pytest.raises(DataError, match="has 9 rows; there is no row 10"):
        pages(file, start=10)


def test_earlier_rows_are_read_again_when_they_are_no_longer_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(_row_window, "KEPT", 3)
    window = RowWindow(questions(tmp_path / "q.jsonl", 9))
    for number in (9, 2, 1, 8, 9):
        row = window.get(number)
        assert row is not None
        assert row.value["question"] == f"Q{number}"
    assert len(window._kept) == 3


def test_no_more_is_read_than_what_is_shown(tmp_path):
    window = RowWindow(questions(tmp_path / "q.jsonl", 1000))
    window.get(2)
    assert window.read == 2


def test_a_pair_stands_side_by_side_with_its_scores(tmp_path):
    row = {"prompt": "Hi?", "chosen": "Good", "rejected": "Bad"}
    row |= {"score": "numeric", "score_chosen": 1.0, "score_rejected": 0.25}
    (shown,) = pages(write(tmp_path / "p.jsonl", row))
    assert "user: Hi?" in shown
    (line,) = [line for line in shown.splitlines() if "Good" in line]
    assert line.index("assistant: Good") < line.index("assistant: Bad")
    (head,) = [line for line in shown.splitlines() if "chosen" in line]
    assert head.index("chosen numeric 1") < head.index("rejected numeric 0.25")


def test_a_scored_sample_tells_its_scores_and_how_it_came_about(tmp_path):
    turns = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]
    row = {
        "id": "s-0",
        "messages": turns,
        "model": "m",
        "finish_reason": "stop",
        "extra": {"reference": "#### 4"},
    }
    row |= {"scores": {"numeric": 1.0}, "score_details": {"numeric": {"found": "4", "expected": "4"}}}
    (shown,) = pages(write(tmp_path / "s.jsonl", row))
    for text in (
        "s.jsonl:1  id s-0",
        "scores: numeric 1",
        "numeric: found 4, expected 4",
        "reference: #### 4",
        "sample: model m, finish_reason stop",
    ):
        assert text in shown


def test_roles_are_coloured(tmp_path):
    console = Console(file=io.StringIO(), force_terminal=True, color_system="standard", width=80, height=30)
    file = questions(tmp_path / "q.jsonl", 1)
    Browser(RowWindow(file), console, Namespace(start=1, search=None, format=None)).run(Script())
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b[1;36muser: \x1b[0m" in text
    assert "\x1b[1;32massistant: \x1b[0m" in text


def test_a_broken_row_is_shown_with_its_place_and_browsing_goes_on(tmp_path):
    file = write(tmp_path / "b.jsonl", {"question": "a", "answer": "b"}, "{broken", {"x": 1}, {"prompt": "c"})
    _, broken, unknown, last = pages(file, "n", "n", "n")
    assert "answer" not in broken
    assert f"bad row: {file}:2: broken JSON" in broken
    assert "{broken" in broken
    assert f"bad row: {file}:3: no format has the keys x" in unknown
    assert "user: c" in last


def test_bytes_that_are_no_text_are_the_last_page(tmp_path):
    file = tmp_path / "b.jsonl"
    file.write_bytes(b'{"prompt": "a"}\n\xff\xfe\n{"prompt": "c"}\n')
    shown = pages(str(file), "n", "n", "p")
    assert numbers(shown) == [1, 2, 2, 1]
    assert f"{file}:2: not UTF-8" in shown[1]


def test_escape_sequences_of_a_row_do_not_reach_the_terminal(tmp_path):
    (shown,) = pages(write(tmp_path / "e.jsonl", {"prompt": "a\x1b[2Jb\x9bc [red]d[/red]"}))
    assert "a␛[2Jb\ufffdc [red]d[/red]" in shown


def test_a_long_row_scrolls(tmp_path):
    file = write(tmp_path / "l.jsonl", {"prompt": "\n".join(f"line {i}." for i in range(30))})
    first, down, up = pages(file, "down", "up", height=13)
    assert "line 9." in first
    assert "line 10." not in first
    assert "line 5." in down
    assert "line 4." not in down
    assert "line 0." in up


@pytest.mark.parametrize("name", ["dummy_sft.json", "dummy_dpo.json"])
def test_without_a_terminal_rows_are_printed(name, capsys):
    assert main(["data", "browse", str(ROOT / "data" / name), "--limit", "2", "--start", "3"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[2] for line in out.splitlines() if line.startswith("== row")] == ["3", "4"]


def test_printed_rows_are_those_that_hold_the_text(tmp_path, capsys):
    file = questions(tmp_path / "q.jsonl", 12)
    assert main(["data", "browse", file, "--search", "a1"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[2] for line in out.splitlines() if line.startswith("== row")] == [
        "1",
        "10",
        "11",
        "12",
    ]
    assert main(["data", "browse", file, "--search", "none"]) == 2
    assert "no row from 1 on holds 'none'" in capsys.readouterr().err


def test_a_terminal_sends_keys_one_at_a_time():
    ours, theirs = pty.openpty()
    try:
        keys = TerminalKeys(theirs)
        os.write(ours, b"n\x1b[C\x1bODq")
        assert [keys.key() for _ in range(4)] == ["n", "right", "left", "q"]
    finally:
        os.close(ours)
        os.close(theirs)
