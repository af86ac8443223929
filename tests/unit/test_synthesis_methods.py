"""Each method on a scripted model: rows, and why others are dropped, worked out from its paper."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest

from autoalign import synthesis
from autoalign.errors import ConfigError, UnknownName
from autoalign.synthesis import Ask, Job, Reply, Row, Seed
from autoalign.synthesis.back_translation import read_score
from autoalign.synthesis.evol_instruct import OPERATIONS
from tests.scripted_models import Script, Scripted


def by_key(**replies: str | Reply) -> Script:
    """What is said by the last part of the ask's key; a whole key (`/` written `__`) comes first."""

    def script(ask: Ask) -> str | Reply:
        whole = ask.key.replace("/", "__")
        return replies[whole if whole in replies else ask.key.rsplit("/", 1)[-1]]

    return script


def make(method: str, script: Script, *seeds: str, rows: int = 100, batch: int = 8, **options: Any) -> Any:
    """The rows, and the model that was asked."""
    built, model = synthesis.build(method, **options), Scripted(script)
    given = [Seed(f"s{number}", text) for number, text in enumerate(seeds)]
    job = Job(given, built.prompts(), model, batch)
    return list(islice(built.run(job), rows)), model


def said(row: Row) -> list[str]:
    return [message.content for message in row.messages]


# Back-translation (arXiv:2308.06259): the text is the answer, the model writes the question and a rating.


def test_back_translation_turns_a_text_into_a_pair() -> None:
    (row,), model = make("back_translation", by_key(instruction="Why?", rating="Good.\nScore: 5"), "Because.")
    assert (said(row), row.reason, row.facts) == (["Why?", "Because."], None, {"score": 5})
    assert "Because." in model.shown("s0/instruction")
    assert "Why?" in model.shown("s0/rating") and "Because." in model.shown("s0/rating")


def test_back_translation_keeps_ratings_of_min_score_or_more() -> None:
    script = by_key(instruction="Why?", s0__rating="Score: 3", s1__rating="Score: 4", s2__rating="no number")
    rows, _ = make("back_translation", script, "a", "b", "c", "b", min_score=4)
    reasons = {row.id: row.reason for row in rows}
    assert reasons == {
        "s0": "a low score",
        "s1": None,
        "s2": "no score in the rating",
        "s3": "a text that was there before",
    }


def test_back_translation_rates_nothing_that_was_cut_off() -> None:
    cut = Reply("Why is it that", "length")
    (row,), model = make("back_translation", by_key(instruction=cut), "Because.")
    assert row.reason == "instruction: cut off at max_new_tokens"
    assert len(model.asks) == 1


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("Score: 4", 4),
        ("score 2 at first\nScore: **3**", 3),
        ("Score: 7", None),
        ("Score: 4.5", None),
        ("Score: 5.", 5),
        ("4", None),
    ],
)
def test_a_rating_is_the_last_number_after_score(text: str, score: int | None) -> None:
    assert read_score(text) == score


# Magpie (arXiv:2406.08464): a question from nothing, then its answer.


def test_magpie_asks_for_a_question_first_and_then_for_its_answer() -> None:
    (row,), model = make("magpie", by_key(instruction="Why?", answer="So."), rows=1, batch=1)
    assert said(row) == ["Why?", "So."]
    first, second = model.asks[:2]
    assert (first.writes, first.messages, first.temperature) == ("question", (), None)
    assert (second.writes, [m.content for m in second.messages], second.temperature) == (
        "answer",
        ["Why?"],
        0.0,
    )


def test_magpie_goes_on_after_the_answer_when_more_turns_are_wanted() -> None:
    script = by_key(**{"magpie-0__0__instruction": "A?", "magpie-0__1__instruction": "B?", "answer": "Yes."})
    (row,), model = make("magpie", script, rows=1, batch=1, turns=2)
    assert said(row) == ["A?", "Yes.", "B?", "Yes."]
    assert [m.content for m in model.asks[2].messages] == ["A?", "Yes."]


def test_magpie_drops_what_is_empty_cut_off_or_there_before() -> None:
    replies = {"0": "What?", "1": "", "2": Reply("Long", "length"), "3": "what?"}
    script = lambda ask: replies[ask.key[7]] if ask.writes == "question" else "So."  # noqa: E731
    rows, _ = make("magpie", script, rows=4, batch=4)
    assert [row.reason for row in rows] == [
        None,
        "instruction: an empty text",
        "instruction: cut off at max_new_tokens",
        "an instruction that came before",
    ]


# Evol-Instruct (arXiv:2304.12244): rounds of rewriting, and four rules that eliminate.

LONG_ANSWER = "Sorry, " + "word " * 79  # 80 words


def evolved(**replies: str | Reply) -> Any:
    """One seed, two rounds; the replies of the first one may be changed."""
    usual = {"evolve": "A harder one", "equal": "Not equal", "answer": "Fine indeed"}
    return make("evol_instruct", by_key(**{**usual, **replies}), "An easy one", rounds=2)


def test_evol_instruct_evolves_what_it_made_before() -> None:
    rows, model = evolved(s0__2__evolve="The hardest one")
    assert [said(row) for row in rows] == [
        ["A harder one", "Fine indeed"],
        ["The hardest one", "Fine indeed"],
    ]
    assert "An easy one" in model.shown("s0/1/evolve")
    assert "A harder one" in model.shown("s0/2/evolve")


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        ({"s0__1__equal": "Equal"}, "no news against the instruction before"),
        ({"s0__1__answer": "Sorry, I can't do that."}, "the answer is an excuse"),
        ({"s0__1__answer": "And so on, and on..."}, "the answer is stop words alone"),
        ({"s0__1__evolve": "New instruction: do it twice"}, "words of the prompt were copied"),
        ({"s0__1__evolve": ""}, "instruction: an empty text"),
        ({"s0__1__answer": LONG_ANSWER}, None),
        ({"s0__1__equal": "They are not equal, not Equal"}, None),
    ],
)
def test_evol_instruct_eliminates(replies: dict[str, str], reason: str | None) -> None:
    (first, second), model = evolved(**replies)
    assert (first.reason, second.reason) == (reason, None)
    # What was eliminated is evolved again from where it stood.
    assert ("An easy one" in model.shown("s0/2/evolve")) == (reason is not None)


def test_evol_instruct_picks_each_of_the_six_prompts_about_as_often() -> None:
    script = by_key(evolve="x y", equal="no", answer="fine")
    rows, _ = make("evol_instruct", script, *map(str, range(600)), rows=600, rounds=1)
    counts = [sum(row.facts["operation"] == name for row in rows) for name in OPERATIONS]
    assert sum(counts) == 600
    # 100 expected; the standard deviation of a binomial (600, 1/6) is 9.1.
    assert all(60 < count < 140 for count in counts)


# Persona Hub (arXiv:2406.20094).


def test_persona_makes_an_instruction_for_each_persona_and_answers_it() -> None:
    rows, model = make(
        "persona", by_key(instruction="Mend my net?", answer="Like so."), "A fisher", per_persona=2
    )
    assert [said(row) for row in rows] == [["Mend my net?", "Like so."]] * 2
    assert [row.facts for row in rows] == [{"persona": "A fisher"}] * 2
    assert "A fisher" in model.shown("s0/0/instruction")


def test_personas_come_from_texts_and_from_other_personas() -> None:
    script = by_key(text_to_persona="A fisher", relation="A net maker", instruction="Q?", answer="A.")
    rows, model = make("persona", script, "Tides today", seeds_are="texts", relations=1)
    assert [row.facts["persona"] for row in rows] == ["A fisher", "A net maker"]
    assert "Tides today" in model.shown("s0/text_to_persona")
    assert "A fisher" in model.shown("s0+/relation")


def test_personas_with_nearly_the_same_words_are_dropped() -> None:
    """Nine of ten words shared: 9 / 10 = 0.9; eight of ten with one other: 8 / 11."""
    ten = "a b c d e f g h i j"
    rows, _ = make(
        "persona", by_key(instruction="Q?", answer="A."), ten, "i h g f e d c b a", "a b c d e f g h z"
    )
    assert [(row.id, row.reason) for row in rows] == [
        ("s1/persona", "a persona like an earlier one"),
        ("s0/0", None),
        ("s2/0", None),
    ]


def test_a_persona_task_is_a_prompt_file() -> None:
    with pytest.raises(UnknownName, match="task_poem"):
        make("persona", by_key(), "A fisher", task="poem")


# What all have in common.


def test_an_option_of_another_method_is_refused() -> None:
    with pytest.raises(ConfigError, match="turns is no option of method persona"):
        synthesis.build("persona", turns=2)


@pytest.mark.parametrize("name", synthesis.names())
def test_every_method_can_be_built_and_has_prompts_that_compile(name: str) -> None:
    sources = synthesis.build(name).prompts().sources
    assert bool(sources) == (name != "magpie")


def test_a_prompt_of_the_users_takes_the_place_of_ours(tmp_path: Any) -> None:
    (tmp_path / "relation.txt").write_text("Who knows {{ persona }}?")
    prompts = synthesis.build("persona").prompts(tmp_path)
    assert prompts.render("relation", persona="Ann") == "Who knows Ann?"
    assert "Ann" in prompts.render("task_math", persona="Ann")


@pytest.mark.parametrize(("name", "text", "message"), [
    ("relatoin", "x", "did you mean 'relation'"),
    ("relation", "{% if %}", r"relation\.txt"),
])  # fmt: skip
def test_a_wrong_prompt_file_is_named(tmp_path: Any, name: str, text: str, message: str) -> None:
    (tmp_path / f"{name}.txt").write_text(text)
    with pytest.raises((UnknownName, ConfigError), match=message):
        synthesis.build("persona").prompts(tmp_path)


def test_a_prompt_with_a_variable_that_is_not_there_is_refused(tmp_path: Any) -> None:
    (tmp_path / "relation.txt").write_text("Who knows {{ person }}?")
    with pytest.raises(ConfigError, match="it has: persona"):
        synthesis.build("persona").prompts(tmp_path).render("relation", persona="Ann")
