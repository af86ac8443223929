"""A scoring job without models: rows, errors, several scorers together."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from autoalign import plugins
from autoalign.cli.main import main
from autoalign.config.score import ScoreConfig
from autoalign.curation.answers import read, windows
from autoalign.scoring.report import Figures


def sample(answer: str, reference: Any = None, question: str = "2 + 2?", **fields: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    extra = {} if reference is None else {"extra": {"reference": reference}}
    return {"messages": turns, **extra, **fields}


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def score(tmp_path: Path):
    def call(rows: list[Any], *flags: str, code: int = 0) -> list[dict[str, Any]]:
        data, output = write(tmp_path / "in.jsonl", *rows), tmp_path / "out" / "scored.jsonl"
        words = ["--data-path", str(data), "--output-file", str(output), "--overwrite"]
        assert main(["score", *words, *flags]) == code
        return rows_of(output) if output.exists() else []

    return call


def test_rows_keep_their_fields_and_their_order(score):
    given = [sample("5", 4, id="x", note="kept"), sample("4", 4, id="y")]
    found = score(given, "--scorer", "numeric")
    assert [row["scores"] for row in found] == [{"numeric": 0.0}, {"numeric": 1.0}]
    for row in found:
        del row["scores"], row["score_details"]
    assert found == given


def test_several_scorers_and_their_weighted_sum(score):
    flags = ["--scorer", "numeric", "length", "--weights", "10", "-0.5"]
    (row,) = score([sample("it: 4", 4)], *flags)
    assert row["scores"] == {"numeric": 1.0, "length": 5.0, "combined": 10 - 2.5}


def test_scores_of_an_earlier_run_stay(score):
    (row,) = score([sample("4", 4, scores={"judge": 7.0})], "--scorer", "numeric")
    assert row["scores"] == {"judge": 7.0, "numeric": 1.0}


def test_both_answers_of_a_pair_are_scored(score, capsys):
    pair = {"prompt": "2 + 2?", "chosen": "four", "rejected": "it is 4", "reference": 4}
    (row,) = score([pair], "--scorer", "numeric", "length")
    assert row["scores"] == {
        "numeric": {"chosen": 0.0, "rejected": 1.0}, "length": {"chosen": 4.0, "rejected": 7.0}
    }  # fmt: skip
    assert "accuracy 0.0%, mean margin -3.0000" in capsys.readouterr().out


def test_a_row_that_cannot_be_scored_goes_to_the_errors(score, tmp_path):
    given = ["{broken", sample("4"), *[sample("4", 4)] * 18]
    assert len(score(given, "--scorer", "numeric")) == 18
    errors = rows_of(tmp_path / "out" / "errors.jsonl")
    assert [(error["line"], error["output"]) for error in errors] == [
        (1, "scored.jsonl"),
        (2, "scored.jsonl"),
    ]
    assert "broken JSON" in errors[0]["error"]
    assert "no reference answer" in errors[1]["error"]
    assert errors[1]["row"] == sample("4")


def test_too_many_errors_are_exit_code_1_and_the_rest_is_written(score, capsys):
    found = score([sample("4"), sample("4", 4)], "--scorer", "numeric", code=1)
    assert len(found) == 1
    assert "1 of 2 rows can't be scored, more than --max_error_rate 0.1" in capsys.readouterr().err


def test_no_row_at_all_is_the_users_error_and_writes_nothing(score, tmp_path, capsys):
    assert score([sample("4"), sample("4")], "--scorer", "numeric", code=2) == []
    assert "none of the 2 rows can be scored" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_an_empty_answer_is_scored(score):
    (row,) = score([sample("", 4)], "--scorer", "numeric", "length")
    assert row["scores"] == {"numeric": 0.0, "length": 0.0}


def test_a_reward_model_must_be_named(score, capsys):
    score([sample("4")], code=2)
    assert "'model_path' is missing" in capsys.readouterr().err


def test_one_weight_a_scorer(score, capsys):
    score([sample("4")], "--scorer", "length", "--weights", "1", "2", code=2)
    assert "one a scorer is expected, 1, not 2" in capsys.readouterr().err


def test_answers_to_one_prompt_stay_in_one_window(tmp_path):
    data = write(tmp_path / "in.jsonl", *(sample(str(n), question=q) for n, q in enumerate("aabbbc")))
    rows = read([str(data)], None, lambda problem, raw: pytest.fail(str(problem)))
    found = [[row.answers[0].text for row in window] for window in windows(rows, 1)]
    assert found == [["0", "1"], ["2", "3", "4"], ["5"]]


def test_figures_of_numbers_seen_once():
    figures = Figures()
    for number in (2, 4, 4, 4, 5, 5, 7, 9):
        figures.add(number)
    assert (figures.mean, figures.spread, figures.lowest, figures.highest) == (5, 2, 2, 9)


def test_every_scorer_stands_in_the_guide_and_in_the_help() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "scoring.md").read_text(encoding="utf-8")
    said = str(ScoreConfig.model_fields["scorer"].description)
    for name in plugins.names("autoalign.scoring.scorers"):
        assert f"| `{name}` |" in guide
        assert re.search(rf"\b{name}\b", said)
