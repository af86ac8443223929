"""Ratings and length-controlled win rates, against values worked out here and simulated judges."""

import math
import random
import statistics

import pytest

from autoalign.evaluation.benchmarks import alpaca_eval, arena_hard
from autoalign.judging.length_control import length_controlled
from autoalign.judging.ratings import Game, bradley_terry


def test_bradley_terry_recovers_the_odds():
    # 200 games at odds of 3 to 1 are 400 * log10(3) points, less a trifle for the tie it adds.
    games = [Game("a", "b", 1.0)] * 150 + [Game("a", "b", 0.0)] * 50
    assert bradley_terry(games, "b")["a"] == pytest.approx(1000 + 400 * math.log10(3), abs=3)


def test_a_model_that_wins_every_game_has_the_likeliest_rating():
    # Where the likelihood is highest its slopes are 0: points won less those that the ratings expect, of 500
    # games and of the tie with the average player, who is as far from both.
    ratings = bradley_terry([Game("a", "b", 1.0)] * 500, "b")
    logit = (ratings["a"] - ratings["b"]) / 400 * math.log(10)

    def chance(ahead):
        return 1 / (1 + math.exp(-ahead))

    assert 500 * (1 - chance(logit)) + 0.5 - chance(logit / 2) == pytest.approx(0, abs=1e-6)


def test_a_game_of_weight_3_is_three_games():
    heavy = [Game("a", "b", 1.0, 3.0), Game("a", "b", 0.0)]
    assert bradley_terry(heavy, "b") == bradley_terry([Game("a", "b", 1.0)] * 3 + heavy[1:], "b")


def test_ratings_are_transitive():
    games = (
        [Game("a", "b", 1.0)] * 3 + [Game("a", "b", 0.0)] + [Game("b", "c", 1.0)] * 3 + [Game("b", "c", 0.0)]
    )
    ratings = bradley_terry(games, "b")
    assert ratings["a"] > ratings["b"] == 1000 > ratings["c"]


def test_wins_of_longer_answers_are_worth_less():
    # Every long answer wins and every short one loses: at equal length the share is a half.
    wins, mine, base = [1.0, 1.0, 0.0, 0.0], [300, 300, 100, 100], [200] * 4
    assert length_controlled(wins, mine, base) == pytest.approx(0.5, abs=1e-6)


def test_length_control_recovers_the_published_model():
    # Preferences that are AlpacaEval's model itself: theta 0.5, phi 1 at tanh((len - base) / std), psi -0.7.
    mine, base = [100, 260, 410, 180, 520, 330, 150, 400] * 20, [300] * 160
    difficulty = [-1.0, 0.5, 0.0, 1.5] * 40
    std = statistics.stdev([own - other for own, other in zip(mine, base, strict=True)])

    def chance(length_term, gamma):
        return 1 / (1 + math.exp(-(0.5 + length_term - 0.7 * gamma)))

    wins = [
        chance(math.tanh((own - other) / std), gamma)
        for own, other, gamma in zip(mine, base, difficulty, strict=True)
    ]
    expected = statistics.fmean(chance(0.0, gamma) for gamma in difficulty)
    assert length_controlled(wins, mine, base, difficulty) == pytest.approx(expected, abs=1e-3)


def test_length_control_of_two_lengths_is_the_mean_of_their_logits():
    # Longer: 36 of 40 won, odds 9; shorter: 20 of 40, odds 1. Between them: odds 3, a share of 3/4.
    wins = [1.0] * 36 + [0.0] * 4 + [1.0] * 20 + [0.0] * 20
    mine, base = [300] * 40 + [100] * 40, [200] * 80
    assert length_controlled(wins, mine, base) == pytest.approx(0.75, abs=1e-3)


def test_without_a_length_effect_the_win_rate_stays():
    wins, mine, base = [1.0, 1.0, 1.0, 0.0] * 20, [100, 300, 100, 300] * 20, [200] * 80
    assert length_controlled([1.0, 0.0] * 40, mine, base) == pytest.approx(0.5, abs=0.01)
    assert length_controlled(wins, [100, 300, 300, 100] * 20, base) > 0.7


def test_the_same_matches_again_make_no_interval_narrower():
    verdicts = [alpaca_eval.Verdict(float(place % 3 > 0), 100 + place, 110) for place in range(60)]
    once, again = (
        alpaca_eval.controlled("a", [[each] * times for each in verdicts], 0, 100) for times in (1, 4)
    )
    assert (again.low, again.high) == pytest.approx((once.low, once.high), abs=0.5)
    games = [Game("the model", "b", float(place % 3 > 0), 3.0) for place in range(60)]
    once, again = (
        arena_hard.rating("a", [[each] * times for each in games], "b", 0, 100) for times in (1, 4)
    )
    assert (again.low, again.high) == pytest.approx((once.low, once.high), abs=3)


def test_intervals_of_ratings_cover_the_true_one():
    # Of 10 questions 6 are won, once much better; 1 is a win in one order alone; 3 are lost: odds of 25 to 7.
    kinds = [((1.0, 3.0), (1.0, 1.0))] * 6 + [((1.0, 1.0), (0.0, 1.0))] + [((0.0, 1.0), (0.0, 1.0))] * 3
    draw, truth, covered = random.Random(0), 1000 + 400 * math.log10(25 / 7), 0
    for seed in range(80):
        questions = [[Game("the model", "b", *game) for game in draw.choice(kinds)] for _ in range(50)]
        found = arena_hard.rating("arena_hard", questions, "b", seed, 100)
        covered += found.low <= truth <= found.high
    assert 0.9 <= covered / 80 <= 0.99


def test_intervals_of_length_controlled_rates_cover_the_true_one():
    # AlpacaEval's model with odds of 3 to 2 at equal length, and a longer answer's advantage of tanh.
    draw, theta, covered = random.Random(0), math.log(3 / 2), 0
    for seed in range(80):
        longer = [draw.gauss(50, 200) for _ in range(50)]
        chances = [1 / (1 + math.exp(-theta - math.tanh(each / 200))) for each in longer]
        questions = [
            [alpaca_eval.Verdict(float(draw.random() < chance), 1000 + round(more), 1000)]
            for chance, more in zip(chances, longer, strict=True)
        ]
        found = alpaca_eval.controlled("alpaca_eval", questions, seed, 100)
        covered += found.low <= 60.0 <= found.high
    assert 0.9 <= covered / 80 <= 0.99


def verdicts(*points):
    """A question of each of these points, with answers of all kinds of lengths."""
    return [[alpaca_eval.Verdict(won, 100 + 37 * place % 90, 120)] for place, won in enumerate(points)]


def test_where_all_are_won_the_length_controlled_rate_has_the_width_of_a_win_rate():
    found = alpaca_eval.controlled("alpaca_eval", verdicts(*[1.0] * 20), 0, 100)
    # The plain rate has 20 / (20 + 3.8415) = 83.89 to 100 (Wilson); this one is 0.3 below it, by its ridge.
    assert found.value == pytest.approx(99.7, abs=0.1)
    assert (found.low, found.high) == pytest.approx((83.3, 100.0), abs=0.5)


def test_where_all_are_ties_the_length_controlled_rate_has_the_width_of_a_win_rate():
    found = alpaca_eval.controlled("alpaca_eval", verdicts(*[0.5] * 20), 0, 100)
    # z^2 = 3.8415: half a width of z / (1 + z^2 / 20) * sqrt(0.25 / 20 + z^2 / 1600) = 0.2007.
    assert (found.value, found.low, found.high) == pytest.approx((50.0, 29.93, 70.07), abs=0.01)


def rated(*questions):
    """The rating by questions of games beside `b`: points and weights."""
    played = [[Game("the model", "b", *game) for game in games] for games in questions]
    return arena_hard.rating("arena_hard", played, "b", 0, 100)


@pytest.mark.parametrize("points", [0.0, 0.5, 1.0])
def test_a_rating_of_games_that_all_end_alike_has_no_interval(points):
    weighty, light = [(points, 3.0), (points, 3.0)], [(points, 1.0), (points, 1.0)]
    found = rated(*[weighty] * 10, *[light] * 10)
    assert found.value is not None
    assert (found.low, found.high) == (None, None)


def test_a_rating_of_questions_that_all_go_alike_has_no_interval():
    # A judge that always likes the first answer best.
    found = rated(*[[(1.0, 1.0), (0.0, 1.0)]] * 20)
    assert (found.value, found.low, found.high) == (pytest.approx(1000.0), None, None)


def test_one_game_that_ends_otherwise_gives_a_rating_its_interval():
    found = rated(*[[(1.0, 1.0), (1.0, 1.0)]] * 19, [(0.0, 1.0), (0.0, 1.0)])
    # Of 40 games 38 are won: odds of 19 to 1, about, are 400 * log10(19) = 512 points.
    assert found.low < 1000 + 512 < found.high
