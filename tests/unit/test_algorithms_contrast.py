"""Contrast without a judge: RLCD, with system messages, context distillation, strong against weak, SPIN."""

from __future__ import annotations

import pytest

from autoalign import algorithms
from autoalign.algorithms import Example, Pair, Reply
from autoalign.errors import ConfigError, UnknownName
from tests.scripted_models import answers, by_key, make, pairs, prompt, rules

BREVITY = ("Answer in one sentence.",)


def roles(messages):
    return [(message.role, message.content) for message in messages]


# RLCD (arXiv:2307.12950): o+ from the prompt with a positive hint, o- with a negative one; no judge.


def test_rlcd_chooses_the_answer_to_the_positive_hint() -> None:
    script = by_key({"positive": "Short.", "negative": "Long, long."})
    (pair,), models = make("rlcd", script, [prompt("Why?")], principles=BREVITY)
    assert isinstance(pair, Pair)
    assert (pair.chosen, pair.rejected) == ("Short.", "Long, long.")
    assert roles(pair.prompt) == [("user", "Why?")]
    assert pair.facts == {"contrast": "principle", "principle": "Answer in one sentence."}
    assert models.keys == ["p/positive", "p/negative"]


def test_rlcds_hints_differ_in_one_word() -> None:
    """Section 3.2: the surface of the two prompts is as alike as can be."""
    script = by_key({"positive": "a", "negative": "b"})
    _, models = make("rlcd", script, [prompt("Why?")], principles=BREVITY)
    positive, negative = (models.shown(f"p/{side}").split() for side in ("positive", "negative"))
    assert [pair for pair in zip(positive, negative, strict=True) if pair[0] != pair[1]] == [
        ("follows", "breaks")
    ]
    assert positive[0] == "Why?"


def test_rlcd_draws_a_contrast_for_each_prompt() -> None:
    given = [prompt("Why?", f"p{number}") for number in range(40)]
    script = by_key({"positive": "a", "negative": "b"})
    made, _ = make("rlcd", script, given, {"contrasts": ("helpful", "harmless")})
    assert {one.facts["contrast"] for one in made} == {"helpful", "harmless"}


@pytest.mark.parametrize("name", ["rlcd", "rlcd_sys"])
def test_a_contrast_drops_answers_that_failed_or_are_the_same(name: str) -> None:
    script = by_key(
        {"a/positive": Reply("half", "length"), "b/positive": "same", "b/negative": "same", "negative": "x"}
    )
    made, _ = make(name, script, [prompt("?", "a"), prompt("?", "b")], principles=BREVITY)
    assert rules(made) == ["answer: cut off at max_new_tokens", "both answers are the same"]
    assert pairs(made) == []


def test_a_contrast_without_a_principle_says_what_to_set() -> None:
    with pytest.raises(ConfigError, match="principles"):
        make("rlcd_sys", by_key({}), [prompt("?")])


def test_rlcd_sys_puts_the_contrast_into_the_system_message() -> None:
    script = by_key({"positive": "Short.", "negative": "Long, long."})
    (pair,), models = make("rlcd_sys", script, [prompt("Why?")], principles=BREVITY)
    asked = models.ask("p/negative").messages
    assert [message.role for message in asked] == ["system", "user"]
    assert "breaks this rule: Answer in one sentence." in asked[0].content
    assert asked[1].content == "Why?"
    assert isinstance(pair, Pair) and roles(pair.prompt) == [("user", "Why?")]


@pytest.mark.parametrize(("name", "turn"), [("rlcd", -1), ("rlcd_sys", 0)])
def test_an_opposite_takes_the_place_of_breaking_the_principle(name: str, turn: int) -> None:
    script = by_key({"positive": "Short.", "negative": "Long, long."})
    given = {"opposites": ("Answer in five paragraphs.", "Be rude.")}
    (pair,), models = make(name, script, [prompt("Why?")], given, principles=(*BREVITY, "Be kind."))
    principle, opposite = pair.facts["principle"], pair.facts["opposite"]
    assert (principle, opposite) in zip((*BREVITY, "Be kind."), given["opposites"], strict=True)
    for side, rule in (("positive", principle), ("negative", opposite)):
        shown = models.ask(f"p/{side}").messages[turn].content
        assert rule in shown and "rule" not in shown


def test_opposites_are_as_many_as_principles() -> None:
    with pytest.raises(ConfigError, match="2 opposites for 1 principles"):
        make("rlcd_sys", by_key({}), [prompt("?")], {"opposites": ("a", "b")}, principles=BREVITY)


@pytest.mark.parametrize("name", ["rlcd", "rlcd_sys"])
def test_a_rejected_answer_may_be_cut_off(name: str) -> None:
    script = by_key({"positive": "Short.", "negative": Reply("Long, long", "length")})
    (pair,), _ = make(name, script, [prompt("Why?")], principles=BREVITY)
    assert isinstance(pair, Pair) and pair.rejected == "Long, long"


# Context distillation (arXiv:2112.00861): asked with the principles, trained without.


def test_context_distillation_takes_the_principles_out_again() -> None:
    both = ("Be brief.", "Be kind.")
    (example,), models = make(
        "context_distillation", by_key({"taught-0": "So."}), [prompt("Why?")], principles=both
    )
    system = models.ask("p/taught-0").messages[0]
    assert system.role == "system" and "- Be brief.\n- Be kind." in system.content
    assert isinstance(example, Example)
    assert roles(example.messages) == [("user", "Why?"), ("assistant", "So.")]


def test_context_distillation_keeps_each_text_once() -> None:
    script = by_key({"taught-0": "So.", "taught-1": "So.", "taught-2": Reply("", "error")})
    made, _ = make("context_distillation", script, [prompt("Why?")], {"samples": 3}, principles=BREVITY)
    assert answers(made) == ["So."]
    assert rules(made) == ["answer: it repeats another answer", "answer: the engine failed"]


# Strong against weak (arXiv:2310.02263, arXiv:2305.13735).


def test_pcon_asks_the_strong_model_for_chosen_and_the_weak_one_for_rejected() -> None:
    script = by_key({"chosen": "Good.", "rejected": "Bad."})
    (pair,), models = make("pcon", script, [prompt("Why?")])
    assert [(ask.key, ask.model) for ask in models.asks] == [("p/chosen", "strong"), ("p/rejected", "weak")]
    assert isinstance(pair, Pair) and (pair.chosen, pair.rejected) == ("Good.", "Bad.")
    assert pair.facts == {"chosen_by": "strong", "rejected_by": "weak"}


# SPIN (arXiv:2401.01335, algorithm 1): the human answer against the last round's model.


def test_spin_rejects_what_the_last_rounds_model_writes() -> None:
    given = [prompt("Why?", "a", answer="Because."), prompt("Who?", "b", answer="Me."), prompt("?", "c")]
    script = by_key({"a/opponent": "No idea.", "b/opponent": "Me."})
    made, models = make("spin", script, given)
    assert pairs(made) == [("Because.", "No idea.")]
    assert rules(made) == ["the model wrote the human answer itself", "the prompt has no human answer"]
    assert {ask.model for ask in models.asks} == {"policy"} and models.keys == ["a/opponent", "b/opponent"]


def test_spin_keeps_an_opponents_answer_that_was_cut_off() -> None:
    """As the authors' generate_vllm.py does with its 256 tokens; a failed or empty one makes no pair."""
    said = {"a": Reply("Well, let us", "length"), "b": Reply("", "length"), "c": Reply("", "error")}
    given = [prompt("Why?", name, answer="Because.") for name in said]
    made, _ = make("spin", by_key({f"{name}/opponent": reply for name, reply in said.items()}), given)
    assert pairs(made) == [("Because.", "Well, let us")]
    assert rules(made) == ["answer: cut off at max_new_tokens", "answer: the engine failed"]


def test_spins_loss_is_dpos_with_the_papers_lambda() -> None:
    assert algorithms.build("spin").training == {"loss_type": ["sigmoid"], "beta": 0.1}


def test_an_unknown_name_and_an_unknown_option_are_refused() -> None:
    with pytest.raises(UnknownName, match="did you mean 'rlcd_sys'"):
        algorithms.build("rlcd-sis")
    with pytest.raises(ConfigError, match="did you mean 'temperature'"):
        algorithms.build("spin", temperatur=1.0)
