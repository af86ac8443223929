"""What the benchmark of evaluation reads from the commands that it runs."""

import pytest

from benchmarks.evaluation import _EVAL, _INFER, Took, told, took

INFER = "│ output tokens │ 32                │\n│ seconds       │ 63.4 (33.7 to start) │"


def test_seconds_are_told_apart_from_the_start():
    assert took(INFER, _INFER) == Took(63.4, 33.7)
    assert took("done in 90.5 s (35.0 s of them to start): outputs/m/ordered_res.txt", _EVAL).work == 55.5
    assert took("done in 9.5 s: outputs/m/ordered_res.txt", _EVAL) == Took(9.5, 0.0)


def test_a_command_that_says_nothing_is_no_figure():
    with pytest.raises(ValueError, match="no seconds in"):
        took("error", _EVAL)


def test_a_missed_aim_is_said():
    assert told([1.0, 1.1, 1.4]) == "median 1.10 x, aim 1.15 x: met"
    assert told([1.2]) == "median 1.20 x, aim 1.15 x: missed"
