"""Diversity by hand-counted n-grams; BLEU against the definition on small texts."""

from __future__ import annotations

import math

import pytest

from autoalign.diversity import distinct_n, diversity, embedding_spread, mean_diversity, self_bleu
from autoalign.words import words


def test_distinct_counts_different_n_grams() -> None:
    """a b a b: 2 of 4 words; ab ba ab: 2 of 3 pairs. With "a c": 3 of 6 words, 3 of 4 pairs."""
    assert (distinct_n(["a b a b"], 1), distinct_n(["a b a b"], 2)) == (2 / 4, 2 / 3)
    assert (distinct_n(["a b a b", "a c"], 1), distinct_n(["a b a b", "a c"], 2)) == (3 / 6, 3 / 4)
    assert distinct_n(["a"], 2) == 0


def test_texts_that_are_alike_have_a_self_bleu_of_one() -> None:
    assert self_bleu(["one two three four five"] * 3) == pytest.approx(1)


def test_texts_with_nothing_in_common_have_the_smoothed_minimum() -> None:
    """No match in 5, 4, 3, 2 n-grams: 0.1 in place of each zero."""
    expected = (0.1 / 5 * 0.1 / 4 * 0.1 / 3 * 0.1 / 2) ** 0.25
    assert self_bleu(["a b c d e", "f g h i j"]) == pytest.approx(expected)


def test_self_bleu_of_two_texts_by_hand() -> None:
    """One word of five differs in the middle: 4/5 words, 2/4 pairs, none of 3 triples and 2 quadruples."""
    one_way = (4 / 5 * 2 / 4 * 0.1 / 3 * 0.1 / 2) ** 0.25
    assert self_bleu(["a b c d e", "a b x d e"]) == pytest.approx(one_way)


def test_a_short_text_pays_the_brevity_penalty() -> None:
    """ "a b" against "a b c d": all its n-grams match, e^(1 - 4/2); the other way 2/4, 1/3, 0.1/2, 0.1/1."""
    short, long = math.exp(-1), (2 / 4 * 1 / 3 * 0.1 / 2 * 0.1) ** 0.25
    assert self_bleu(["a b", "a b c d"]) == pytest.approx((short + long) / 2)


def test_a_count_is_clipped_at_what_the_best_other_text_has() -> None:
    """ "a a a" has one of its three matched by "a b", two by "a a c": the higher one counts."""
    texts = ["a a a", "a b", "a a c"]
    bleu = math.exp((math.log(2 / 3) + math.log(1 / 2) + math.log(0.1 / 1)) / 3)
    others = [
        # "a b": a matches, b does not; no pair. As long as none: the closest is 3, e^(1 - 3/2).
        math.exp(1 - 3 / 2) * math.sqrt(1 / 2 * 0.1 / 1),
        # "a a c": two of three words, one of two pairs, no triple.
        math.exp((math.log(2 / 3) + math.log(1 / 2) + math.log(0.1 / 1)) / 3),
    ]
    assert self_bleu(texts) == pytest.approx((bleu + sum(others)) / 3)


def test_the_mean_is_over_groups_of_two_and_more() -> None:
    groups = [["a b", "a b"], ["only one"], ["a b", "c d"]]
    found = mean_diversity(groups)
    assert found is not None
    assert found.distinct_1 == pytest.approx((2 / 4 + 4 / 4) / 2)
    assert (found.texts, mean_diversity([["one"]])) == (4, None)


def test_the_spread_of_embeddings() -> None:
    assert embedding_spread([(1, 0), (2, 0)]) == pytest.approx(0)
    assert embedding_spread([(1, 0), (0, 3)]) == pytest.approx(1)
    # Pairs: 0, 1 and 1.
    assert embedding_spread([(1, 0), (1, 0), (0, 1)]) == pytest.approx(2 / 3)


def test_words_of_scripts_without_blanks() -> None:
    assert words("Don't_stop 42, 你好!") == ["don", "t", "stop", "42", "你", "好"]
    assert diversity(["你好", "你坏"]).distinct_1 == 3 / 4
