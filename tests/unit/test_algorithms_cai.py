"""Constitutional AI (arXiv:2212.08073): critiques and revisions, then AI feedback."""

from __future__ import annotations

from autoalign.algorithms import Example, Pair, Reply
from autoalign.judging.verdicts import read_points
from tests.scripted_models import by_key, make, pairs, prompt, rules

RULES = ("Be harmless.", "Be honest.", "Be kind.")
CHAIN: dict[str, str | Reply] = {
    "initial-0": "Take a hammer.",
    "critique-1": "Too violent.",
    "revision-1": "Call a friend.",
    "critique-2": "Too short.",
    "revision-2": "Call a good friend.",
}


def test_a_revision_answers_the_critique_of_what_stood_before() -> None:
    made, models = make("cai", by_key(CHAIN), [prompt("How?")], {"revisions": 2}, principles=RULES)
    assert models.keys == ["p/initial-0", "p/critique-1", "p/revision-1", "p/critique-2", "p/revision-2"]
    assert "assistant: Take a hammer." in models.shown("p/critique-1")
    assert "Critique: Too violent." in models.shown("p/revision-1")
    assert "assistant: Call a friend." in models.shown("p/critique-2")
    for step, one in enumerate(made, 1):
        assert isinstance(one, Example)
        assert one.messages[-1].content == CHAIN[f"revision-{step}"]
        assert one.facts["principle"] in models.shown(f"p/critique-{step}")
        assert one.facts["principle"] in models.shown(f"p/revision-{step}")


def test_every_step_draws_its_own_principle() -> None:
    made, _ = make(
        "cai", by_key(CHAIN), [prompt("How?", f"p{n}") for n in range(20)], {"revisions": 2}, principles=RULES
    )
    drawn = [one.facts["principle"] for one in made]
    assert set(drawn) == set(RULES)
    assert drawn[::2] != drawn[1::2]


def test_keep_last_learns_from_the_final_revision_alone() -> None:
    made, _ = make("cai", by_key(CHAIN), [prompt("How?")], {"revisions": 2, "keep": "last"}, principles=RULES)
    assert [one.id for one in made] == ["p/revision-2"]


def test_a_failed_step_ends_the_chain_and_keeps_what_was_before() -> None:
    script = by_key({**CHAIN, "critique-2": Reply("", "error")})
    made, models = make("cai", script, [prompt("How?")], {"revisions": 3}, principles=RULES)
    assert rules(made) == ["critique: the engine failed"]
    assert [one.id for one in made if isinstance(one, Example)] == ["p/revision-1"]
    assert models.keys[-1] == "p/critique-2"


def test_what_is_criticised_may_be_cut_off_but_not_what_is_learned() -> None:
    cut = {name: Reply(CHAIN[name], "length") for name in ("initial-0", "critique-1", "revision-2")}
    made, models = make("cai", by_key({**CHAIN, **cut}), [prompt("How?")], {"revisions": 2}, principles=RULES)
    assert [one.id for one in made if isinstance(one, Example)] == ["p/revision-1"]
    assert rules(made) == ["revision: cut off at max_new_tokens"]
    assert "Critique: Too violent." in models.shown("p/revision-1")


FEEDBACK: dict[str, str | Reply] = {"answer-0": "Yes.", "answer-1": "No."}


def test_feedback_needs_the_same_winner_in_both_orders() -> None:
    script = by_key(
        {
            **FEEDBACK,
            "a/feedback/ab": "[[B]]",
            "a/feedback/ba": "[[A]]",  # answer-1 both times
            "b/feedback/ab": "[[A]]",
            "b/feedback/ba": "[[A]]",  # whatever stands first
            "c/feedback/ab": "[[A]]",
            "c/feedback/ba": "[[B]]",  # answer-0 both times
        }
    )
    given = [prompt("How?", name) for name in "abc"]
    made, models = make("cai", script, given, {"stage": "feedback"}, principles=RULES)
    assert pairs(made) == [("No.", "Yes."), ("Yes.", "No.")]
    assert rules(made) == ["the judge sees no winner in both orders"]
    assert {ask.model for ask in models.asks if "feedback" in ask.key} == {"judge"}
    assert models.shown("a/feedback/ba").index("No.") < models.shown("a/feedback/ba").index("Yes.")


def test_both_answers_are_judged_by_one_principle() -> None:
    script = by_key({**FEEDBACK, "feedback/ab": "[[A]]", "feedback/ba": "[[B]]"})
    (pair,), models = make("cai", script, [prompt("How?")], {"stage": "feedback"}, principles=RULES)
    assert isinstance(pair, Pair)
    for order in ("ab", "ba"):
        assert pair.facts["principle"] in models.shown(f"p/feedback/{order}")


def test_a_judge_that_can_not_be_read_is_asked_again_and_then_dropped() -> None:
    script = by_key(
        {
            **FEEDBACK,
            "a/feedback/ab": "Hm.",
            "a/feedback/ab#2": "Well. [[A]]",
            "a/feedback/ba": "[[B]]",
            "b/feedback/ab": "I'm sorry, but I can't compare these. [[A]]",
            "b/feedback/ab#2": Reply("[[A]] and then", "length"),
            "b/feedback/ab#3": Reply("", "error"),
            "b/feedback/ba": "[[B]]",
        }
    )
    made, models = make(
        "cai", script, [prompt("?", "a"), prompt("?", "b")], {"stage": "feedback"}, principles=RULES
    )
    assert pairs(made) == [("Yes.", "No.")]
    assert rules(made) == ["judge: the engine failed"]
    assert models.ask("a/feedback/ab").temperature == 0 and models.ask("a/feedback/ab#2").temperature == 0.7


def test_feedback_by_points_shows_each_answer_alone_with_the_rule() -> None:
    script = by_key({**FEEDBACK, "feedback/a": "Score: 2", "feedback/b": "Score: 4"})
    options = {"stage": "feedback", "compare_by": "points"}
    (pair,), models = make("cai", script, [prompt("How?")], options, principles=RULES)
    assert isinstance(pair, Pair) and (pair.chosen, pair.rejected) == ("No.", "Yes.")
    assert pair.facts["principle"] in models.shown("p/feedback/a")
    assert "No." not in models.shown("p/feedback/a").split("<answer>")[1]


def test_points_are_a_whole_number_in_range() -> None:
    texts = {"Score: 4": 4, "score: 3/5": 3, "Score: 2\nFinal **Score: 0**": 0, "score is 5": 5}
    nothing = ["Score: 6", "Score: 4.5", "Score: 3-4", "Score: 4/10", "4", "Score: high"]
    assert {text: read_points(text) for text in texts} == texts
    assert [read_points(text) for text in nothing] == [None] * len(nothing)
