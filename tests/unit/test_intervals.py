"""Intervals against published values, scipy, and their own promise: 95 of 100 hold the truth."""

from __future__ import annotations

import random

import pytest

from autoalign.intervals import bootstrap_mean, paired_bootstrap, wilson


def test_wilson_is_newcombes_example() -> None:
    """Newcombe 1998, Statistics in Medicine 17:857, table I, method 3: 81 of 263, and 0 of 20."""
    assert [round(x, 4) for x in wilson(81, 263)[1:]] == [0.2553, 0.3662]
    assert [round(x, 4) for x in wilson(0, 20)[1:]] == [0.0, 0.1611]


def test_wilson_is_scipys() -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    for successes, trials in ((0, 1), (3, 7), (50, 100), (100, 100)):
        theirs = scipy_stats.binomtest(successes, trials).proportion_ci(0.9, method="wilson")
        assert wilson(successes, trials, 0.9)[1:] == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_wilson_refuses_what_is_no_share() -> None:
    for successes, trials in ((1, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="trials"):
            wilson(successes, trials)


def test_wilson_holds_the_truth_in_95_of_100() -> None:
    draw = random.Random(1)
    held = 0
    for _ in range(4000):
        share = draw.uniform(0.02, 0.98)
        successes = sum(draw.random() < share for _ in range(60))
        held += wilson(successes, 60).low <= share <= wilson(successes, 60).high
    assert 0.93 <= held / 4000 <= 0.97


def test_the_paired_bootstrap_holds_the_truth_in_95_of_100() -> None:
    """Scores 0 or 1 of two models on items of different hardness; the truth is 0.1 more for the second."""
    draw = random.Random(2)
    held = 0
    for number in range(500):
        chances = [draw.uniform(0.1, 0.8) for _ in range(60)]
        before = [float(draw.random() < chance) for chance in chances]
        after = [float(draw.random() < chance + 0.1) for chance in chances]
        found = paired_bootstrap(before, after, resamples=200, seed=number)
        held += found.low <= 0.1 <= found.high
    assert 0.93 <= held / 500 <= 0.97


def test_pairing_takes_away_what_is_hard_for_both() -> None:
    before = [0.0, 10.0, 20.0, 30.0]
    found = paired_bootstrap(before, [value + 1 for value in before])
    assert found == (1.0, 1.0, 1.0)


def test_items_must_be_the_same() -> None:
    with pytest.raises(ValueError, match="shorter"):
        paired_bootstrap([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="no values"):
        bootstrap_mean([])


def test_the_same_seed_gives_the_same_interval() -> None:
    values = [1.0, 5.0, 2.0, 8.0]
    assert bootstrap_mean(values, seed=3) == bootstrap_mean(values, seed=3)
