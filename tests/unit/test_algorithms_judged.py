"""Pairs by judgement: self-rewarding, meta-rewarding, SPPO, online DPO, WPO, iterative DPO."""

from __future__ import annotations

import math

import pytest

from autoalign import algorithms
from autoalign.algorithms import Ask, Pair, Reply
from autoalign.algorithms._elo import Battle, Weights, place_weights, ratings
from autoalign.errors import ConfigError
from tests.scripted_models import by_key, make, pairs, prompt, rules


def score(points: int) -> str:
    return f"Reasons.\nScore: {points}"


def lettered(ask: Ask) -> str:
    """Answers `a0`, `a1`, ...; a judge that prefers the answer with the higher number."""
    if ask.model == "policy":
        return f"a{ask.key.rsplit('-', 1)[-1]}"
    text = ask.messages[-1].content
    place = {name: text.rindex(f"a{name}\n") for name in range(5) if f"a{name}\n" in text}
    low, high = sorted(place)
    return "[[A]]" if place[high] < place[low] else "[[B]]"


# Self-rewarding (arXiv:2401.10020): the policy rates its own answers, three times each.


def test_self_rewarding_pairs_the_best_mean_against_the_worst() -> None:
    """Means 3, 13/3, 2 and 3: answer 1 is chosen, answer 2 rejected."""
    points = {"answer-0": (3, 3, 3), "answer-1": (5, 4, 4), "answer-2": (2, 1, 3), "answer-3": (4, 2, 3)}
    replies: dict[str, str | Reply] = {name: f"text of {name}" for name in points}
    for name, given in points.items():
        replies |= {f"{name}/rating-{index}": score(each) for index, each in enumerate(given)}
    (pair,), models = make("self_rewarding", by_key(replies), [prompt("Why?")])
    assert isinstance(pair, Pair)
    assert (pair.chosen, pair.rejected) == ("text of answer-1", "text of answer-2")
    assert (pair.facts["score_chosen"], pair.facts["score_rejected"]) == (pytest.approx(13 / 3), 2.0)
    assert {(ask.model, ask.temperature, ask.top_p) for ask in models.asks} == {("policy", 0.7, 0.9)}
    assert len(models.asks) == 4 + 4 * 3
    asked = models.shown("p/answer-2/rating-1")
    assert "user: Why?" in asked and "text of answer-2" in asked


def test_self_rewarding_makes_no_pair_of_equal_scores() -> None:
    replies = by_key({f"answer-{n}": f"a{n}" for n in range(4)})
    made, _ = make(
        "self_rewarding",
        lambda ask: score(3) if "rating" in ask.key else replies(ask),
        [prompt("Why?")],
    )
    assert rules(made) == ["all scores are equal"]


def test_an_answer_without_a_readable_rating_is_no_candidate() -> None:
    """Answer 0 would be the best, but its judgments are nonsense; one good try of another is enough."""
    replies: dict[str, str | Reply] = {"answer-0": "zero", "answer-1": "one", "answer-2": "two"}
    replies |= {
        "answer-1/rating-0": "great!", "answer-1/rating-0#2": score(2), "answer-2/rating-0": score(4),
    }  # fmt: skip
    script = by_key(replies)
    made, models = make(
        "self_rewarding",
        lambda ask: "Score: 11/10" if "answer-0/rating" in ask.key else script(ask),
        [prompt("Why?")],
        {"candidates": 3, "judgments": 1},
    )
    assert pairs(made) == [("two", "one")]
    assert rules(made) == ["judge: no verdict could be read"]
    tries = [key for key in models.keys if key.startswith("p/answer-0/rating")]
    assert tries == ["p/answer-0/rating-0", "p/answer-0/rating-0#2", "p/answer-0/rating-0#3"]


# Meta-rewarding (arXiv:2407.19594).


def rated(lengths: dict[str, tuple[int, int]]):
    """Answers of a length and with points, by index; every judgment agrees."""

    def script(ask: Ask) -> str:
        index = ask.key.split("answer-")[1].split("/")[0]
        length, points = lengths[index]
        return score(points) if "rating" in ask.key else index * length

    return script


def test_meta_rewarding_takes_the_shortest_of_the_top_tier_and_the_longest_of_the_bottom_tier() -> None:
    """Scores 5, 4, 2, 1 with rho 0.3: the tiers are [3.8, 5] and [1, 2.2]."""
    answers = {"0": (90, 5), "1": (10, 4), "2": (80, 2), "3": (20, 1)}
    options = {"candidates": 4, "judgments": 1, "rho": 0.3, "judge_pairs": False}
    made, _ = make("meta_rewarding", rated(answers), [prompt("Why?")], options)
    assert pairs(made) == [("1" * 10, "2" * 80)]
    options["rho"] = 0.0
    made, _ = make("meta_rewarding", rated(answers), [prompt("Why?")], options)
    assert pairs(made) == [("0" * 90, "3" * 20)]


def test_meta_rewarding_drops_what_is_chosen_but_too_long() -> None:
    options = {"candidates": 2, "judgments": 1, "judge_pairs": False, "max_chosen_chars": 50}
    made, _ = make("meta_rewarding", rated({"0": (51, 5), "1": (5, 1)}), [prompt("Why?")], options)
    assert rules(made) == ["the chosen answer is too long"]


def meta_script(ask: Ask) -> str:
    """Answer 1's judgments vary (0, 2, 4); the meta-judge prefers the one with the higher score."""
    if "/meta-" in ask.key:
        text = ask.messages[-1].content
        first, second = (text.split(f"Judgment {name}:")[1].split("Score: ")[1][0] for name in "AB")
        return "[[A]]" if first > second else "[[B]]"
    if "rating" in ask.key:
        return score(3 if "answer-0" in ask.key else 2 * int(ask.key[-1]))
    return f"a{ask.key[-1]}"


def test_meta_rewarding_pairs_judgments_of_the_answer_they_vary_most_on() -> None:
    options = {"candidates": 2, "judgments": 3}
    made, models = make("meta_rewarding", meta_script, [prompt("Why?")], options)
    actor, judge = made
    assert isinstance(actor, Pair) and isinstance(judge, Pair)
    assert (actor.chosen, actor.rejected, actor.facts["role"]) == ("a0", "a1", "actor")
    assert (judge.chosen, judge.rejected, judge.facts["role"]) == (score(4), score(0), "judge")
    assert judge.prompt[-1].content == models.shown("p/answer-1/rating-0")
    meta = [ask for ask in models.asks if "/meta-" in ask.key]
    assert len(meta) == 3 * 2 and {ask.model for ask in meta} == {"policy"}


def test_a_meta_judge_that_takes_the_first_every_time_makes_no_pair() -> None:
    """All wins are at the first place: they weigh 0, and only the draws are left."""

    def script(ask: Ask) -> str:
        return "[[A]]" if "/meta-" in ask.key else meta_script(ask)

    made, _ = make("meta_rewarding", script, [prompt("Why?")], {"candidates": 2, "judgments": 3})
    assert rules(made) == ["all judgments are as good"]


def test_a_win_weighs_the_share_of_wins_at_the_other_place() -> None:
    battles = [Battle(0, 1, True), Battle(1, 0, True), Battle(0, 1, True), Battle(1, 0, False)]
    assert place_weights(battles) == Weights(first=0.25, second=0.75)


def test_two_players_ratings_are_the_odds_of_their_wins() -> None:
    """3 wins to 1 at weight 1, and 0.05 each for the draw: p_0 / p_1 = 3.05 / 1.05."""
    battles = [Battle(0, 1, True)] * 3 + [Battle(0, 1, False)]
    first, second = ratings(2, battles, Weights(1.0, 1.0))
    assert first / second == pytest.approx(3.05 / 1.05)
    assert first + second == pytest.approx(2)


# SPPO (arXiv:2405.00675): every two answers compared, the mean chance to win decides.


def test_sppo_pairs_the_most_with_the_least_likely_winner() -> None:
    """a4 beats all four others: (0.5 + 4) / 5; a0 loses to all: 0.5 / 5."""
    (pair,), models = make("sppo", lettered, [prompt("Why?")])
    assert isinstance(pair, Pair) and (pair.chosen, pair.rejected) == ("a4", "a0")
    assert (pair.facts["score_chosen"], pair.facts["score_rejected"]) == (0.9, 0.1)
    compared = [ask for ask in models.asks if ask.model == "judge"]
    assert len(compared) == math.comb(5, 2) * 2


def test_sppo_leaves_comparisons_out_that_can_not_be_read() -> None:
    """a0 and a1 have only the comparison with a2 left: a2 wins both, the other two have 0.5 / 2 each."""

    def script(ask: Ask) -> str:
        return "well" if "answer-0/against-1" in ask.key else lettered(ask)

    made, _ = make("sppo", script, [prompt("Why?")], {"samples": 3})
    assert rules(made) == ["judge: no verdict could be read"]
    assert pairs(made) == [("a2", "a0")]


# Online DPO (arXiv:2402.04792): two answers of the moment's policy, one judge, both orders.


def test_online_dpo_keeps_what_the_judge_prefers_in_both_orders() -> None:
    def script(ask: Ask) -> str:
        return "[[A]]" if ask.key.startswith("biased/online") else lettered(ask)

    made, models = make("online_dpo", script, [prompt("Why?", "a"), prompt("Who?", "biased")])
    assert pairs(made) == [("a1", "a0")]
    assert rules(made) == ["the judge sees no winner in both orders"]
    assert models.keys[:2] == ["a/answer-0", "a/answer-1"] and models.ask("a/answer-0").temperature == 0.9


# WPO (arXiv:2406.11827), hybrid: the data's answers stand among the policy's.


def test_wpo_ranks_the_datas_answers_with_the_policys() -> None:
    """Rewards are lengths: the data's answer is the longest, the policy's second the shortest."""
    given = [prompt("Why?", answer="Because of that.", rejected="No, no.")]
    script = by_key({"answer-0": "Hm, so.", "answer-1": "Hm."})
    (pair,), _ = make(
        "wpo", script, given, {"samples": 2}, reward=lambda asked: [float(len(text)) for _, text in asked]
    )
    assert isinstance(pair, Pair)
    assert (pair.chosen, pair.rejected) == ("Because of that.", "Hm.")
    assert (pair.facts["chosen_id"], pair.facts["rejected_id"]) == ("p/given-answer", "p/answer-1")


def test_wpo_trains_with_the_beta_of_the_authors_configs() -> None:
    """wzhouad/WPO, training_configs/llama3_instruct.yaml and mistral-base.yaml: beta 0.01."""
    assert algorithms.build("wpo").training == {"loss_type": ["wpo"], "beta": 0.01}


# Iterative DPO (arXiv:2404.19733 with a verifier).


def right(asked, text: str) -> bool | None:
    return None if asked.reference is None else text.endswith(asked.reference)


def test_iterative_dpo_pairs_right_answers_with_wrong_ones() -> None:
    """Right: 0 and 2, wrong: 1 and 3; of the four pairs three are wanted, each answer as seldom as can be."""
    script = by_key({f"answer-{n}": text for n, text in enumerate(("is 4", "is 5", "so 4", "so 6"))})
    made, _ = make(
        "iterative_dpo", script, [prompt("2+2?", reference="4")], {"samples": 4, "pairs": 3}, verify=right
    )
    assert pairs(made) == [("is 4", "is 5"), ("so 4", "so 6"), ("is 4", "so 6")]


def test_iterative_dpo_drops_questions_that_are_all_right_or_all_wrong() -> None:
    script = by_key(
        {
            "a/answer-0": "4",
            "a/answer-1": "is 4",
            "b/answer-0": "5",
            "b/answer-1": "6",
            "answer-0": "?",
            "answer-1": "!",
        }
    )
    given = [prompt("2+2?", "a", reference="4"), prompt("2+2?", "b", reference="4"), prompt("?", "c")]
    made, _ = make("iterative_dpo", script, given, {"samples": 2}, verify=right)
    assert rules(made) == [
        "no answer below the threshold 0.5",
        "no answer at or above the threshold 0.5",
        "verifier: its answers can't be scored",
    ]


def test_iterative_dpo_rejects_answers_that_are_cut_off_and_never_chooses_them() -> None:
    """Answer 1 is cut off and wrong, answer 2 is cut off where the right number stands: both are rejected."""
    replies: dict[str, str | Reply] = {
        "answer-0": "so 4", "answer-1": Reply("2 and 2 and", "length"),
        "answer-2": Reply("maybe 4", "length"), "answer-3": Reply("", "length"),
        "answer-4": Reply("", "error"),
    }  # fmt: skip
    given, options = [prompt("2+2?", reference="4")], {"samples": 5}
    made, _ = make("iterative_dpo", by_key(replies), given, options, verify=right)
    assert pairs(made) == [("so 4", "2 and 2 and"), ("so 4", "maybe 4")]
    assert rules(made) == ["answer: cut off at max_new_tokens", "answer: the engine failed"]
    replies["answer-0"] = Reply("so 4", "length")
    made, _ = make("iterative_dpo", by_key(replies), given, options, verify=right)
    assert rules(made)[-1] == "no answer at or above the threshold 0.5"


@pytest.mark.parametrize("source", ["judge", "reward"])
def test_iterative_dpo_by_scores_leaves_out_answers_that_are_cut_off(source: str) -> None:
    """The cut-off answer has the lowest score of the three."""
    script = by_key(
        {
            "answer-0": "aa", "answer-0/rating-0": score(2), "answer-1": Reply("a", "length"),
            "answer-2": "aaa", "answer-2/rating-0": score(3),
        }
    )  # fmt: skip
    made, _ = make(
        "iterative_dpo", script, [prompt("?")], {"samples": 3, "source": source},
        reward=lambda asked: [float(len(text)) for _, text in asked],
    )  # fmt: skip
    assert pairs(made) == [("aaa", "aa")]
    assert rules(made) == ["answer: cut off at max_new_tokens"]


def test_iterative_dpo_adds_the_nll_where_a_verifier_is_the_source() -> None:
    """Equation 1 of arXiv:2404.19733 is for reasoning; with scores of another kind it is DPO alone."""
    dpo = {"loss_type": ["sigmoid"], "beta": 0.1}
    sources = ("verifier", "judge", "reward")
    found = [algorithms.build("iterative_dpo", source=source).training for source in sources]
    assert found == [{**dpo, "rpo_alpha": 1.0, "nll_average": "rows"}, dpo, dpo]


def test_iterative_dpo_without_a_verifier_takes_best_and_worst() -> None:
    script = by_key({"answer-0": "aa", "answer-1": "a", "answer-2": "aaa"})
    made, _ = make(
        "iterative_dpo", script, [prompt("?")], {"samples": 3, "source": "reward"},
        reward=lambda asked: [float(len(text)) for _, text in asked],
    )  # fmt: skip
    assert pairs(made) == [("aaa", "a")]


@pytest.mark.parametrize(("name", "missing"), [("iterative_dpo", "verifier"), ("wpo", "reward_model")])
def test_what_scores_must_be_there(name: str, missing: str) -> None:
    with pytest.raises(ConfigError, match=missing):
        make(name, lambda ask: "a", [prompt("?")], {"samples": 2})


# Judges that choose by the place alone: each answer rated by itself.


def more_words(ask: Ask) -> str:
    """Two answers of one and of three words; a point for each word."""
    if ask.model == "policy":
        return {"0": "one", "1": "one two three", "2": "two words"}[ask.key[-1]]
    answer = ask.messages[-1].content.split("<answer>")[1].split("</answer>")[0]
    return score(len(answer.split()))


def test_online_dpo_by_points() -> None:
    made, models = make("online_dpo", more_words, [prompt("Why?")], {"compare_by": "points"})
    assert pairs(made) == [("one two three", "one")]
    assert models.keys[-2:] == ["p/online/a", "p/online/b"]


def test_equal_points_make_no_pair() -> None:
    made, _ = make(
        "online_dpo",
        lambda ask: score(3) if ask.model == "judge" else ask.key,
        [prompt("Why?")],
        {"compare_by": "points"},
    )
    assert rules(made) == ["both get the same points"]


def test_an_answer_whose_points_can_not_be_read_drops_the_match() -> None:
    made, _ = make(
        "online_dpo",
        lambda ask: ("Hm." if "/a" in ask.key else score(3)) if ask.model == "judge" else ask.key,
        [prompt("Why?")],
        {"compare_by": "points"},
    )
    assert rules(made) == ["judge: no verdict could be read"]


def test_sppo_by_points() -> None:
    """P(win) is 1/3 (0 + 0 + 1/2) for 1 word and 1/3 (1 + 1 + 1/2) for 3."""
    (pair,), _ = make("sppo", more_words, [prompt("Why?")], {"samples": 3, "compare_by": "points"})
    assert isinstance(pair, Pair) and (pair.chosen, pair.rejected) == ("one two three", "one")
    assert (pair.facts["score_chosen"], pair.facts["score_rejected"]) == (
        pytest.approx(2.5 / 3),
        pytest.approx(0.5 / 3),
    )


def test_another_way_to_compare_is_refused() -> None:
    for name in ("online_dpo", "sppo", "cai"):
        with pytest.raises(ConfigError, match="compare_by is 'coin'; expected choice or points"):
            make(name, more_words, [prompt("Why?")], {"compare_by": "coin"})
