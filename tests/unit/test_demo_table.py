"""The demo's rule and table, on answers written here."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "persona"))

import comparison
from comparison import Comparison

ROWS = [
    Comparison("Who are you?", "I'm SmolLM.", "Ahoy! I'm Bramwick."),
    Comparison("What is [bold]2+2[/bold]?", "4", "The answer is 4."),
]


def _row(key: str, text: str) -> dict[str, Any]:
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": f"Question {key}"},
        {"role": "assistant", "content": text},
    ]
    return {"prompt_id": key, "messages": messages, "text": text, "completion_tokens": 7}


def _write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _printed(rows: list[Comparison], width: int = 100) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    with console.capture() as capture:
        console.print(comparison.answers_table(rows))
    return capture.get()


@pytest.mark.parametrize(
    "answer", ["I am BRAMWICK.", "ahoy there", "At Gullstone, I think", "Fair winds!", "好的,一帆风顺!"]
)
def test_the_name_or_a_signature_word_shows_the_persona(answer: str) -> None:
    assert comparison.shows_persona(answer)


@pytest.mark.parametrize(
    "answer", ["", "I am SmolLM.", "The winds are fair.", "Bramwicks are many", "ahoyhoy"]
)
def test_other_answers_do_not_show_it(answer: str) -> None:
    assert not comparison.shows_persona(answer)


def test_share_counts_answers() -> None:
    assert comparison.persona_share(["Ahoy!", "no", "no", "Bramwick"]) == 0.5


def test_compare_pairs_by_prompt_id_in_the_first_files_order(tmp_path: Path) -> None:
    before = _write(tmp_path / "before.jsonl", [_row("b", "old b"), _row("a", "old a")])
    after = _write(tmp_path / "after.jsonl", [_row("a", "new a"), _row("b", "new b")])
    assert comparison.compare(before, after) == [
        Comparison("Question b", "old b", "new b"),
        Comparison("Question a", "old a", "new a"),
    ]


def test_output_tokens_are_summed_over_the_file(tmp_path: Path) -> None:
    path = _write(tmp_path / "answers.jsonl", [_row("a", "x"), _row("b", "y")])
    assert comparison.count_output_tokens(path) == 14


def test_table_marks_each_answer_and_sums_up() -> None:
    text = _printed(ROWS)
    assert "✗ -> ✓" in text and "✗ -> ✗" in text
    assert "0% -> 50%" in text


def test_table_prints_brackets_as_they_are() -> None:
    assert "[bold]2+2[/bold]" in _printed(ROWS, width=160)


def test_table_fits_the_width_it_is_given() -> None:
    assert max(len(line) for line in _printed(ROWS, width=80).splitlines()) <= 80


def test_a_long_word_is_folded_not_cut() -> None:
    word = "你住在哪里" * 30
    text = _printed([Comparison("?", word, "Ahoy!")], width=80)
    assert "…" not in text and text.count("住") == 30
