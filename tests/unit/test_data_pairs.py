"""Preference pairs out of scored samples: each strategy's pairs written out."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoalign import formats, plugins
from autoalign.cli.main import main
from autoalign.curation.candidates import Candidate, Rules
from autoalign.curation.pairs import STRATEGIES
from autoalign.records import Message


def sample(prompt: str, answer: str, score: float | None, **fields: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    scores = {} if score is None else {"scores": {"numeric": score}}
    return {"prompt_id": prompt, "messages": turns, **scores, **fields}


def chosen_by(strategy: str, scores: list[float], **rules: Any) -> list[tuple[int, int]]:
    """Pairs as places in `scores`."""
    given = [Candidate(str(i), (Message("assistant", f"a{i}"),), score) for i, score in enumerate(scores)]
    choice = plugins.load(STRATEGIES, strategy).choose(given, Rules(**rules))
    return [(int(chosen.id), int(rejected.id)) for chosen, rejected in choice.pairs]


def test_best_worst_is_one_pair():
    assert chosen_by("best_worst", [3, 5, 1, 5]) == [(1, 2)]
    assert chosen_by("best_worst", [2, 2]) == []
    assert chosen_by("best_worst", [3, 5], min_margin=2.5) == []


def test_threshold_pairs_in_rounds_so_that_a_limit_repeats_few():
    scores = [1, 0, 1, 0]
    assert chosen_by("threshold", scores) == [(0, 1), (2, 3), (0, 3), (2, 1)]
    assert chosen_by("threshold", scores, max_pairs=2) == [(0, 1), (2, 3)]
    assert chosen_by("threshold", [0.4, 0.6], threshold=0.7) == []


def test_two_good_answers_meet_ten_different_bad_ones():
    """Iterative RPO's 10 pairs of 30 answers: answers 0 and 1 are good."""
    found = chosen_by("threshold", [1, 1] + [0] * 28, max_pairs=10)
    assert found == [(place % 2, 2 + place) for place in range(10)]


@given(good=st.integers(1, 9), bad=st.integers(1, 9), most=st.integers(1, 90))
def test_threshold_makes_each_pair_once_and_takes_as_many_answers_as_it_can(good: int, bad: int, most: int):
    scores = [1.0] * good + [0.0] * bad
    assert len(set(chosen_by("threshold", scores))) == good * bad
    found = chosen_by("threshold", scores, max_pairs=most)
    for side, size in ((0, good), (1, bad)):
        uses = Counter(pair[side] for pair in found)
        assert len(uses) == min(most, size)
        assert max(uses.values()) == math.ceil(len(found) / size)


def test_margin_takes_the_widest_apart_first():
    assert chosen_by("margin", [1, 2, 4], min_margin=2) == [(2, 0), (2, 1)]
    assert chosen_by("margin", [1, 2, 4], min_margin=2, max_pairs=1) == [(2, 0)]


def test_all_pairs_but_ties():
    assert chosen_by("all", [1, 2, 2]) == [(1, 0), (2, 0)]


def test_random_depends_on_the_seed_alone():
    scores = [float(n) for n in range(20)]
    (drawn,) = chosen_by("random", scores, seed="1")
    assert drawn[0] > drawn[1]
    assert chosen_by("random", scores, seed="1") == [drawn]
    several = chosen_by("random", scores, seed="2", max_pairs=50)
    assert len(set(several)) == 50


@pytest.fixture
def pairs(tmp_path: Path):
    def call(rows: list[dict[str, Any]], *flags: str, code: int = 0) -> list[dict[str, Any]]:
        data, output = tmp_path / "in.jsonl", tmp_path / "pairs.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert main(["data", "pairs", str(data), "-o", str(output), *flags]) == code
        return [json.loads(line) for line in output.read_text().splitlines()] if output.exists() else []

    return call


def test_answers_meet_those_to_their_own_prompt_wherever_they_stand(pairs, tmp_path):
    rows = [sample("p", "bad", 0), sample("q", "good", 1), sample("p", "fine", 1), sample("q", "worse", 0)]
    found = pairs(rows)
    assert [(row["prompt"], row["chosen"][1]["value"], row["rejected"][1]["value"]) for row in found] == [
        ("p", "fine", "bad"), ("q", "good", "worse")
    ]  # fmt: skip
    assert formats.load(tmp_path / "pairs.jsonl", kind="preference").format == "autoalign"


def test_a_pair_tells_its_scores(pairs):
    (row,) = pairs([sample("p", "a", 0, id="x"), sample("p", "b", 1, id="y")], "--score", "numeric")
    told = ("strategy", "score", "score_chosen", "score_rejected", "chosen_id", "rejected_id")
    assert [row[key] for key in told] == ["best_worst", "numeric", 1, 0, "y", "x"]
    assert "margin" not in row


def test_the_margin_for_a_reward_model_is_written_on_demand(pairs):
    (row,) = pairs([sample("p", "a", 0.25), sample("p", "b", 1)], "--with-margin", "--to", "trl")
    assert (row["margin"], row["chosen"], row["rejected"]) == (0.75, "b", "a")


def test_prompts_without_pairs_are_counted_by_reason(pairs, capsys):
    rows = [
        sample("ok", "a", 0), sample("ok", "b", 1), sample("ok", "b", 1), sample("ok", "", 0),
        sample("tie", "a", 1), sample("tie", "b", 1), sample("alone", "a", 1),
    ]  # fmt: skip
    assert len(pairs(rows)) == 1
    out = capsys.readouterr().out
    assert "1 pairs from 1 of 3 prompts (7 answers)" in out
    assert "left out: 1 empty answers, 1 that repeat another" in out
    assert "1  all scores are equal" in out
    assert "1  fewer than two different answers" in out


def test_nothing_to_pair_is_an_error_with_the_reasons(pairs, capsys):
    assert pairs([sample("p", "a", 1), sample("p", "b", 1)], code=2) == []
    assert "all scores are equal" in capsys.readouterr().err


def test_a_row_without_a_score_is_a_bad_row(pairs, tmp_path, capsys):
    rows = [sample("p", "a", 0), sample("p", "b", 1), sample("p", "c", None)]
    assert pairs(rows, code=2) == []
    assert "in.jsonl:3: scores: no score; run autoalign-cli score" in capsys.readouterr().err
    errors = tmp_path / "errors.jsonl"
    assert len(pairs(rows, "--on-bad-row", "quarantine", "--errors-path", str(errors))) == 1
    assert json.loads(errors.read_text())["line"] == 3


def test_of_several_scores_one_is_named(pairs, capsys):
    rows = [{**sample("p", "a", None), "scores": {"x": 1, "y": 2}}]
    pairs(rows, code=2)
    assert "several scores (x, y); name one with --score" in capsys.readouterr().err


def test_an_output_that_exists_is_kept(pairs, capsys):
    rows = [sample("p", "a", 0), sample("p", "b", 1)]
    pairs(rows)
    assert len(pairs(rows, code=2)) == 1
    assert "give --force" in capsys.readouterr().err
