"""`data filter` and `data dedupe`: which rows stay, worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from autoalign.cli.main import main
from autoalign.curation.duplicates import bands, shingles, similarity
from autoalign.curation.overlap import Overlap, words


def sample(prompt: str, answer: str, score: float = 0, **fields: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return {"messages": turns, "scores": {"numeric": score}, **fields}


@pytest.fixture
def answers_left(tmp_path: Path):
    def call(command: str, rows: list[dict[str, Any]], *flags: str) -> list[str]:
        data, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert main(["data", command, str(data), "-o", str(output), *flags]) == 0
        left = [json.loads(line) for line in output.read_text().splitlines()]
        assert all(row in rows for row in left)
        return [row["messages"][1]["content"] for row in left]

    return call


ROWS = [sample("p", "a", 1), sample("q", "bb", 0), sample("p", "ccc", 1), sample("q", "dddd", 0.5)]


@pytest.mark.parametrize(
    ("flags", "left"),
    [
        (["--min-score", "0.5"], ["a", "ccc", "dddd"]),
        (["--max-score", "0.5"], ["bb", "dddd"]),
        (["--min-score", "1", "--max-per-prompt", "1"], ["a"]),
        (["--best-of-n"], ["a", "dddd"]),
        (["--keyword", "C", "b"], ["bb", "ccc"]),
        (["--not-keyword", "c"], ["a", "bb", "dddd"]),
        (["--min-length", "2", "--max-length", "3"], ["bb", "ccc"]),
    ],
)
def test_filter(answers_left, flags, left):
    assert answers_left("filter", ROWS, *flags) == left


def test_filter_tells_what_each_rule_left_out(answers_left, capsys):
    answers_left("filter", ROWS, "--min-score", "0.5", "--max-length", "3")
    out = capsys.readouterr().out
    assert "2 of 4 rows" in out
    assert "1  left out by --min-score" in out
    assert "1  left out by --max-length" in out


def test_rows_that_share_a_run_of_words_with_a_test_set_go(answers_left, tmp_path, capsys):
    test_set = tmp_path / "eval.jsonl"
    text = "one two three four five six seven eight nine ten eleven twelve thirteen"
    test_set.write_text(json.dumps({"prompt": f"{text} fourteen"}) + "\n")
    rows = [sample(f"Well: {text.upper()}!", "x"), sample(text.replace("seven", "and"), "y")]
    assert answers_left("filter", rows, "--decontaminate", str(test_set)) == ["y"]
    assert "in.jsonl:1 shares words with" in capsys.readouterr().out


def test_short_evaluation_rows_match_as_a_whole_or_not_at_all():
    known = Overlap([("e:1", "a b c d e f g h"), ("e:2", "what is it")])
    assert known.match("so a b c d e f g h i") == "e:1"
    assert known.match("what is it") is None


def test_words_of_any_script():
    assert words("Don't stop, 你好!") == ["don", "t", "stop", "你", "好"]


def test_dedupe_exact_ignores_case_and_spaces(answers_left):
    rows = [sample("p", "Hello  world"), sample("p", "hello world"), sample("q", "hello world")]
    assert answers_left("dedupe", rows) == ["Hello  world", "hello world"]
    assert answers_left("dedupe", rows, "--on", "answer", "--force") == ["Hello  world"]


def test_dedupe_minhash_finds_what_is_nearly_the_same(answers_left):
    pytest.importorskip("rensa")
    long = "The quick brown fox jumps over the lazy dog, and then it runs into the green forest. " * 3
    rows = [sample("p", long), sample("p", long + "Indeed."), sample("p", "Something else altogether.")]
    flags = ["--method", "minhash", "--threshold", "0.8"]
    assert answers_left("dedupe", rows, *flags) == [long, "Something else altogether."]


def test_shingles_and_similarity():
    assert shingles("abcdef") == {"abcde", "bcdef"}
    assert shingles("abc") == {"abc"}
    assert similarity([1, 2, 3, 4], [1, 2, 9, 4]) == 0.75


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95])
def test_bands_find_nearly_all_pairs_at_the_threshold(threshold):
    count, size = bands(threshold, 128)
    assert count * size <= 128
    assert 1 - (1 - threshold**size) ** count >= 0.95
