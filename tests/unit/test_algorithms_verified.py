"""Examples by checking: RFT, ReST, STaR, self-consistency, debate; SSO's generator; GRPO's advantages."""

from __future__ import annotations

import pytest

from autoalign import algorithms
from autoalign.algorithms import Ask, Dropped, Example, Pair, Question, Reply
from autoalign.algorithms._equations import equations, holds
from autoalign.algorithms.sso import read_principles
from autoalign.errors import ConfigError
from autoalign.losses.preference import build as build_loss
from tests.scripted_models import answers, by_key, make, pairs, prompt, rules


def right(asked, text: str) -> bool | None:
    return None if asked.reference is None else text.split()[-1] == asked.reference


def last_word(text: str) -> str | None:
    return text.split()[-1] if text[-1].isdigit() else None


SUM = prompt("3 and 4, twice?", answer="3+4=7, 7*2=14, so 14", reference="14")


# RFT (arXiv:2308.01825): right results, right calculations, one for each list of equations.


def test_rft_keeps_one_answer_for_each_way_to_the_right_result() -> None:
    texts = [
        "3 + 4 = 7 and 7 x 2 = 14, so 14",
        "First 3+4=7. Then 7*2=14 makes 14",  # the same equations in other words
        "3*2=6, 4*2=8, 6+8=14, so 14",  # another way
        "3+4=8, 8*2=16, so 14",  # right by luck
        "3+4=7, so 7",  # wrong
    ]
    script = by_key({f"answer-{n}": text for n, text in enumerate(texts)})
    made, _ = make("rft", script, [SUM], {"samples": 5}, verify=right)
    assert answers(made) == ["3+4=7, 7*2=14, so 14", texts[0], texts[2]]
    assert made[0].facts == {"by": "human"}
    assert rules(made) == [
        "the same equations as another answer", "a calculation in it is wrong", "the answer is wrong",
    ]  # fmt: skip


def test_rft_without_samples_is_fine_tuning_on_the_human_answers() -> None:
    made, models = make("rft", by_key({}), [SUM], {"samples": 0}, verify=right)
    assert answers(made) == ["3+4=7, 7*2=14, so 14"]
    assert models.asks == [] and rules(made) == []


def test_rft_with_neither_samples_nor_human_answers_is_refused() -> None:
    with pytest.raises(ConfigError, match="samples is 0; expected 1 or more"):
        algorithms.build("rft", samples=0, with_originals=False)


def test_rft_starts_every_round_from_the_first_model() -> None:
    assert algorithms.build("rft").starts_from == "base"
    assert algorithms.build("spin").starts_from == "policy"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("48/2 = <<48/2=24>>24", ["48/2=24"]),
        ("$5 x 3 = $15", ["5*3=15"]),
        ("(1 + 2) * 3 = 9", ["(1+2)*3=9"]),
        ("1,200 - 200 = 1,000", ["1200-200=1000"]),
        ("x = 5 and no sum", []),
        (r"\(5 \times 4 + 3 = 23\)", ["5*4+3=23"]),
        (r"$\frac{48}{2} \cdot 3 = 72$ and 7 \div 2 = 3.5", ["(48)/(2)*3=72", "7/2=3.5"]),
        (r"\$5 − \$3 = \$2", ["5-3=2"]),
        ("12 apples - 3 + 5 = 14", []),  # the end of something longer
        ("-3 + 5 = 2", []),
        ("- 3 + 5 = 8\n* 2 + 2 = 4", ["3+5=8", "2+2=4"]),  # items of a list
        ("2 * 4 = 5 + 3 = 8", ["5+3=8"]),
    ],
)
def test_equations_are_found_as_people_write_them(text: str, found: list[str]) -> None:
    assert [str(one) for one in equations(text)] == found
    assert all(map(holds, equations(text)))


@pytest.mark.parametrize("text", ["2+2=5", "1/0 = 3", "2+3*4 = 20", "10/4 = 2"])
def test_an_equation_that_does_not_hold_is_seen(text: str) -> None:
    assert [holds(one) for one in equations(text)] == [False]


# ReST (arXiv:2308.08998): thresholds that rise with the rounds; the score must be above.


def test_rest_raises_the_threshold_from_round_to_round() -> None:
    script = by_key({"answer-0": "0.7", "answer-1": "0.75", "answer-2": "0.95"})
    kept = []
    for number in (1, 2, 3, 9):
        made, _ = make(
            "rest", script, [prompt("?")], {"samples": 3}, round=number,
            reward=lambda asked: [float(text) for _, text in asked],
        )  # fmt: skip
        kept.append(answers(made))
    assert kept == [["0.7", "0.75", "0.95"], ["0.75", "0.95"], ["0.95"], []]


def test_rests_thresholds_must_rise() -> None:
    with pytest.raises(ConfigError, match="rise"):
        algorithms.build("rest", thresholds=(0.9, 0.7))


# STaR (arXiv:2203.14465): wrong answers get a hint, which training does not see.


def test_star_asks_again_with_the_answer_where_it_was_wrong() -> None:
    given = [prompt(f"Q{name}?", name, reference="14") for name in "abc"] + [prompt("Q?", "d")]
    script = by_key(
        {
            "a/answer-0": "at once 14", "b/answer-0": "it is 15", "b/hinted-0": "ah, 14",
            "c/answer-0": "it is 16", "c/hinted-0": "still 16", "d/answer-0": "it is 1",
        }
    )  # fmt: skip
    made, models = make("star", script, given, verify=right)
    assert answers(made) == ["at once 14", "ah, 14"]
    hinted = made[2]
    assert isinstance(hinted, Example) and hinted.facts == {"hinted": True}
    assert hinted.messages[0].content == "Qb?"
    assert "The right answer is 14" in models.shown("b/hinted-0")
    assert rules(made) == ["verifier: it can't be checked", "wrong even with the hint"]
    assert {ask.temperature for ask in models.asks} == {0.0}


def test_star_without_rationalization_drops_wrong_answers() -> None:
    made, models = make("star", lambda ask: "it is 15", [SUM], {"rationalization": False}, verify=right)
    assert (rules(made), len(models.asks)) == (["the answer is wrong"], 1)


@pytest.mark.parametrize("rationalization", [True, False])
def test_star_gives_no_hint_where_the_answer_can_not_be_checked(rationalization: bool) -> None:
    made, models = make(
        "star",
        lambda ask: "so 14",
        [SUM],
        {"rationalization": rationalization},
        verify=lambda asked, text: None,
    )
    assert [(one.id, rule) for one, rule in zip(made, rules(made), strict=True)] == [
        ("p/answer-0", "verifier: it can't be checked")
    ]
    assert models.keys == ["p/answer-0"]


def test_star_does_not_call_a_hinted_answer_wrong_that_can_not_be_checked() -> None:
    script = by_key({"answer-0": "it is 15", "hinted-0": "perhaps"})
    made, _ = make(
        "star", script, [SUM], verify=lambda asked, text: None if text == "perhaps" else right(asked, text)
    )
    assert [(one.id, one.rule) for one in made if isinstance(one, Dropped)] == [
        ("p/hinted-0", "verifier: it can't be checked")
    ]


def test_star_without_a_reference_has_no_hint_to_give() -> None:
    """A verifier that counts words needs none; a cut-off answer keeps its own reason."""
    script = by_key({"a/answer-0": "far too many words", "b/answer-0": Reply("so", "length")})
    given = [prompt("Q?", name) for name in "ab"]
    made, models = make("star", script, given, verify=lambda asked, text: len(text.split()) < 3)
    assert rules(made) == ["the answer is wrong", "answer: cut off at max_new_tokens"]
    assert models.keys == ["a/answer-0", "b/answer-0"]


# Self-consistency (arXiv:2210.11610): the majority's answer counts as right; references are not looked at.

PATHS = {
    "path-0": "so 14",
    "path-1": "thus 14",
    "path-2": "it is 15",
    "path-3": "I do not know",
    "path-4": "so 14",
}


def test_self_improve_keeps_the_paths_to_the_majority() -> None:
    options = {"samples": 5, "formats": ("plain",)}
    made, models = make("self_improve", by_key(PATHS), [SUM], options, extract=last_word)
    assert answers(made) == ["so 14", "thus 14"]
    # 3 of 5 paths come to 14; the one without an answer is a path too.
    assert made[0].facts == {"confidence": 3 / 5, "votes": 3, "format": "plain"}
    assert rules(made) == ["it comes to another answer", "it comes to no answer", "it repeats another answer"]
    assert models.shown("p/path-0") == "3 and 4, twice?\n\nLet's think step by step."


def test_self_improve_mixes_formats() -> None:
    made, _ = make("self_improve", by_key(PATHS), [SUM], {"samples": 1}, extract=last_word)
    shown = [(one.messages[0].content, one.messages[1].content) for one in made if isinstance(one, Example)]
    assert shown == [
        ("3 and 4, twice?", "so 14"),
        ("3 and 4, twice?\n\nLet's think step by step.", "so 14"),
        ("3 and 4, twice?\n\nGive the final answer alone.", "14"),
    ]


def test_self_improve_can_ask_for_a_larger_majority() -> None:
    options = {"samples": 3, "min_confidence": 0.7}
    made, _ = make("self_improve", by_key(PATHS), [SUM], options, extract=last_word)
    assert rules(made) == ["the majority is too small"]
    assert made[0].facts == {"confidence": pytest.approx(2 / 3)}


def test_self_improve_counts_paths_that_are_cut_off_or_fail_among_all() -> None:
    """2 of 4 paths come to 14: a half, where of the answers alone it would be all."""
    script = by_key(
        {
            "path-0": "so 14", "path-1": "thus 14", "path-2": Reply("first 14", "length"),
            "path-3": Reply("", "error"),
        }
    )  # fmt: skip
    options = {"samples": 4, "min_confidence": 0.6}
    made, _ = make("self_improve", script, [SUM], options, extract=last_word)
    assert rules(made)[-1] == "the majority is too small" and made[-1].facts == {"confidence": 0.5}


# Debate (arXiv:2305.14325): each agent sees the others' last answers, not its own.


def test_agents_see_the_others_answers_and_the_majority_counts() -> None:
    script = by_key(
        {
            "agent-0/round-1": "it is 13", "agent-1/round-1": "so 14", "agent-2/round-1": "like 15",
            "agent-0/round-2": "yes, 14", "agent-1/round-2": "stays 14", "agent-2/round-2": "no, 15",
        }
    )  # fmt: skip
    (example,), models = make("debate", script, [SUM], extract=last_word)
    assert isinstance(example, Example)
    assert [m.content for m in example.messages] == ["3 and 4, twice?", "yes, 14"]
    assert example.facts == {"votes": 2, "agents": 3, "votes_at_first": 1}
    seen = models.ask("p/agent-0/round-2").messages
    assert [m.role for m in seen] == ["user", "assistant", "user"] and seen[1].content == "it is 13"
    assert "so 14" in seen[2].content and "like 15" in seen[2].content and "it is 13" not in seen[2].content


def test_a_debate_without_a_majority_is_dropped() -> None:
    made, _ = make("debate", lambda ask: f"so {ask.key.split('/')[1][-1]}", [SUM], extract=last_word)
    assert rules(made) == ["no majority"]


def test_an_agent_that_fails_leaves_the_debate() -> None:
    def script(ask: Ask) -> str | Reply:
        return Reply("", "error") if "agent-1" in ask.key else "so 14"

    made, models = make("debate", script, [SUM], extract=last_word)
    assert rules(made) == ["answer: the engine failed"]
    assert answers(made) == ["so 14"]
    assert "p/agent-1/round-2" not in models.keys


# SSO (arXiv:2410.17131v2, eq. 2 and 4).

WRITTEN = "Good principle: Be exact.\nBad principle: Be vague."


def test_ssos_generator_learns_both_principles() -> None:
    """x+: y+ over y-; x-: y_o over y+, not y- over y+."""
    script = by_key({"principles": WRITTEN, "good": "y+", "bad": "y-", "plain": "y_o"})
    made, models = make("sso", script, [prompt("Why?")])
    assert pairs(made) == [("y+", "y-"), ("y_o", "y+")]
    plus, minus = made
    assert isinstance(plus, Pair) and isinstance(minus, Pair)
    assert "good answer, one that keeps to this guideline: Be exact." in plus.prompt[0].content
    assert "bad answer, one that keeps to this guideline: Be vague." in minus.prompt[0].content
    assert models.ask("p/principles").model == "strong"
    assert {ask.model for ask in models.asks[1:]} == {"policy"}
    assert [m.role for m in models.ask("p/plain").messages] == ["user"]


def test_ssos_policy_learns_from_the_generator_without_principles() -> None:
    script = by_key({"principles": WRITTEN, "good": "y+", "bad": "y-"})
    (pair,), models = make("sso", script, [prompt("Why?")], {"stage": "policy"})
    assert isinstance(pair, Pair) and (pair.chosen, pair.rejected) == ("y+", "y-")
    assert [m.role for m in pair.prompt] == ["user"]
    assert {ask.model for ask in models.asks[1:]} == {"generator"}


def test_ssos_stages_train_different_models_with_its_weighted_loss() -> None:
    assert [algorithms.build("sso", stage=stage).trains for stage in ("generator", "policy")] == [
        "generator",
        "policy",
    ]
    generator, policy = (algorithms.build("sso", stage=stage).training for stage in ("generator", "policy"))
    assert (generator["loss_type"], policy["loss_type"]) == (["sso", "sft"], ["sigmoid", "sft"])
    assert generator["loss_weights"] == policy["loss_weights"] == [1.0, 0.1]
    assert build_loss(generator["loss_type"], beta=0.1).terms[0].options.sso_alpha == 0.66


@pytest.mark.parametrize(
    "text", ["Good principle: x", "Bad principle: x\nGood principle: y", "both are good"]
)
def test_principles_that_are_not_both_there_are_none(text: str) -> None:
    assert read_principles(text) is None


def test_principles_that_can_not_be_read_drop_the_prompt() -> None:
    made, _ = make("sso", lambda ask: "As I see it, no.", [prompt("Why?")])
    assert rules(made) == ["principles: no verdict could be read"]


# GRPO (arXiv:2402.03300).


def test_grpo_takes_every_prompt_without_asking_anybody() -> None:
    given = [prompt("Q?", name, reference="14") for name in "ab"]
    made, models = make("grpo", by_key({}), given, verify=right)
    assert [(one.id, one.reference) for one in made if isinstance(one, Question)] == [
        ("a", "14"),
        ("b", "14"),
    ]
    assert models.asks == []


def test_grpo_screens_by_cut_off_answers_too() -> None:
    """Training scores them as they stand: one of the three is right. An answer that failed has no score."""
    script = by_key(
        {
            "screen-0": "so 14", "screen-1": Reply("3 and 4 and", "length"),
            "screen-2": Reply("7 or", "length"), "screen-3": Reply("", "error"),
        }
    )  # fmt: skip
    (dropped, question), _ = make(
        "grpo", script, [prompt("Q?", reference="14")], {"samples": 4}, verify=right
    )
    assert isinstance(question, Question) and question.facts == {"right": 0.3333}
    assert rules([dropped]) == ["answer: the engine failed"]


def test_grpo_drops_prompts_whose_answers_are_all_alike() -> None:
    texts = {"a/screen-0": "so 14", "a/screen-1": "so 15", "b/screen-0": "no 1", "b/screen-1": "no 2"}
    given = [prompt("Q?", name, reference="14") for name in "ab"]
    made, _ = make("grpo", by_key(dict(texts)), given, {"samples": 2}, verify=right)
    assert [(one.id, one.facts) for one in made if isinstance(one, Question)] == [("a", {"right": 0.5})]
    assert rules(made) == ["all rewards of the group are equal"]
