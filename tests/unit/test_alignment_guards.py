"""Guards: what they show, text that rows share with the evaluation, and a judge's liking for a place."""

from __future__ import annotations

import json

import pytest

from autoalign.algorithms import Ask, Example, Pair, Prompt, Question, Reply
from autoalign.alignment import guards
from autoalign.alignment.contamination import Hidden
from autoalign.alignment.places import Places
from autoalign.records import Message
from tests.scripted_models import prompt

LONG = "How many pens does Tess have when Ida gives her five more of them?"


def asked(*turns: str) -> tuple[Message, ...]:
    return tuple(Message("user" if place % 2 == 0 else "assistant", text) for place, text in enumerate(turns))


@pytest.mark.parametrize(
    ("made", "found"),
    [
        (Question("r", "p", asked("  what  IS it?"), None, "so"), "short"),
        (Pair("r", "p", asked("What is it?"), "a", "b", "so"), "short"),
        (Example("r", "p", (Message("system", "Be brief."), *asked("What is it?", "A cat.")), "so"), "short"),
        (Question("r", "p", asked("What is it, then?"), None, "so"), None),
        (Question("r", "p", asked("What is this?"), None, "so"), None),
        # The same words, in another conversation.
        (Question("r", "p", asked("I saw a cat.", "Did you?", "What is it?"), None, "so"), None),
        (Question("r", "p", asked("2 - 2?"), None, "so"), None),
        (Question("r", "p", asked(f"Tell me. {LONG}"), None, "so"), "long"),
        (Example("r", "p", asked("Ask me!", LONG), "so"), "long"),
    ],
)
def test_a_short_prompt_is_found_as_a_whole_and_a_long_one_by_its_words(
    made: Example | Pair | Question, found: str | None
) -> None:
    hidden = Hidden([prompt("What is it?", "short"), prompt("2 + 2?", "sum"), prompt(LONG, "long")])
    assert hidden.match(made) == found


def test_a_conversation_is_the_same_up_to_its_last_turn() -> None:
    hidden = Hidden([Prompt("talk", asked("Hi", "Hello", "Why?"))])
    assert hidden.match(Question("r", "p", asked("hi", "hello", "why?"), None, "so")) == "talk"
    assert hidden.match(Question("r", "p", asked("Why?"), None, "so")) is None


def said(key: str, text: str, finish: str = "stop", schema: str | None = None) -> tuple[Ask, Reply]:
    return Ask(key, (), "judge", 0.0, json_schema=schema), Reply(text, finish)


def test_places_are_counted_of_verdicts_asked_in_both_orders() -> None:
    """A, A, B and A count; a tie, a refusal, a failure, nonsense, answers and ratings do not."""
    both = [
        said("p/online/ab", "[[A]]"),
        said("p/online/ba", "Hm."),
        said("p/online/ba#2", "[[A]]"),
        said("q/feedback/ab", "[[tie]]"),
        said("q/feedback/ba", "I'm sorry, but I can't compare these. [[A]]"),
        said("r/answer-0/meta-0-1", json.dumps({"reason": "so", "preference": "B"}), schema="{}"),
        said("r/answer-0/meta-1-0", json.dumps({"reason": "so", "preference": "A"}), schema="{}"),
        said("s/online/ab", "[[A]]", "error"),
        said("s/answer-0", "[[A]]"),
        said("s/answer-0/rating-0", "[[A]]"),
    ]
    places = Places()
    places.see(*zip(*both, strict=True))
    assert places.first == 0.75


def test_without_such_verdicts_nothing_is_said_of_places() -> None:
    places = Places()
    places.see(*zip(said("p/answer-0", "[[A]]"), strict=True))
    assert places.first is None


def test_guards_that_are_not_measured_name_the_key_that_would_measure_them() -> None:
    fell = {"value": -0.05, "low": -0.1, "high": 0.0}
    figures = {"length_drift": 0.5, "diversity": None, "judge_first": 0.71, "judge_unread": 2}
    line = "length drift 0.50, verdicts for what stands first 71%, unread 2, contaminated rows 0, "
    line += "benchmark's change -0.050 [-0.100, +0.000], "
    line += "diversity: not measured (the first model's answers are too short), "
    line += "judge bias (length): not measured (metric: judge), "
    line += "reward hacking: not measured (models: held_out_judge)"
    assert guards.shown({**figures, "contaminated": 0, "forgetting": fell}) == line


def test_a_guard_that_came_to_nothing_says_so() -> None:
    figures = {"length_drift": 1.0, "diversity": 1.0, "contaminated": 0, "metric": "judge"}
    line = guards.shown({**figures, "judge_first": None, "held_out_judge_unread": 4, "benchmark_checked": 0})
    assert line.split(", ")[-4:] == [
        "judge bias (position): not measured (no verdict names a winner)",
        "judge bias (length): not measured (no comparison has a winner)",
        "reward hacking: not measured (none of the held-out judge's verdicts could be read)",
        "forgetting: not measured (no answer to the benchmark could be checked)",
    ]


def test_a_judge_of_training_answers_that_prefers_a_place_is_warned_of() -> None:
    figures = {"metric": "verifier", "data_judge_first": 0.8, "chosen_longer": 0.5}
    assert "verdicts on training answers for what stands first 80%, chosen is longer in 50%" in guards.shown(
        figures
    )
    assert guards.warnings(figures) == [
        "judge bias: 80% of verdicts are for what stands first (on training answers)"
    ]
