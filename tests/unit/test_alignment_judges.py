"""What judges of an alignment are shown, and that each judgment that can't be read is counted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from autoalign import algorithms
from autoalign.algorithms import Ask, Prompt, Reply
from autoalign.alignment.data import DROPPED, DataTask
from autoalign.alignment.evaluation import Judging
from autoalign.alignment.machinery import Machinery
from tests.alignment_fakes import FakeTrainer, Fault, digest
from tests.scripted_models import Script, Scripted, make, pairs, prompt, rules

# Preference data: what the reader makes of a chosen answer, and of one that ends as GSM8K's do.
OPEN = prompt("Why?", answer="Rain fell. ", reference="Rain fell.", rejected="Who knows?")
SUM = prompt("20 + 2?", "q", answer="20 + 2 = 22\n#### 22", reference="22")
SHOWN = "<reference>\n22\n</reference>"

BY_JUDGES = [
    ("self_rewarding", {"judgments": 1}),
    ("meta_rewarding", {"judgments": 1}),
    ("iterative_dpo", {"source": "judge", "samples": 2}),
    ("wpo", {"source": "judge", "samples": 2}),
    ("sppo", {"samples": 2}),
    ("sppo", {"samples": 2, "compare_by": "points"}),
    ("online_dpo", {}),
    ("online_dpo", {"compare_by": "points"}),
    ("cai", {"stage": "feedback", "compare_by": "points"}),
]


def verdict(ask: Ask) -> str:
    """Answers that differ, and a form that is read as points and as a choice."""
    return "Score: 3\n[[A]]" if "/answer-" not in ask.key or "/rating-" in ask.key else ask.key


class Sampler(Scripted):
    """Scripted models for the loop's stages."""

    def __call__(  # type: ignore[override]
        self, models: Mapping[str, str], asks: Sequence[Ask], store: Path
    ) -> list[Reply]:
        return super().__call__(asks)

    def release(self) -> None:
        """Nothing is up."""


def machinery(script: Script) -> tuple[Machinery, Sampler]:
    sampler = Sampler(script)
    return Machinery(sampler, FakeTrainer(Fault()), digest), sampler


@pytest.mark.parametrize(("name", "options"), BY_JUDGES)
def test_judges_see_a_short_reference_and_never_the_human_answer(
    name: str, options: dict[str, object]
) -> None:
    _, models = make(name, verdict, [OPEN, SUM], options, principles=("Be kind.",))
    judged = [
        ask.messages[-1].content for ask in models.asks if ask.messages[-1].content not in ("Why?", "20 + 2?")
    ]
    open_ones = [text for text in judged if "user: Why?" in text]
    sums = [text for text in judged if "user: 20 + 2?" in text]
    assert open_ones and sums
    assert not any("<reference>" in text for text in open_ones)
    assert all(SHOWN in text for text in sums)
    # WPO rates it as one of the answers.
    assert sum("Rain fell." in text for text in open_ones) == (1 if name == "wpo" else 0)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (OPEN, None),
        (SUM, "22"),
        (prompt("?", answer="22", reference="22"), None),
        (prompt("?", reference="22"), "22"),
        (prompt("?", answer="22"), None),
        (prompt("?"), None),
    ],
)
def test_a_reference_is_shown_where_it_is_not_the_human_answer(given: Prompt, shown: str | None) -> None:
    assert given.judge_reference == shown


def test_the_evaluation_shows_no_human_answer_either(tmp_path: Path) -> None:
    made, sampler = machinery(lambda ask: "[[A]]")
    held_out = [
        prompt("Why?", "a", answer="Rain fell.", reference="Rain fell."),
        prompt("20 + 2?", "b", reference="22"),
    ]
    judging = Judging(made, {}, tmp_path / "texts.jsonl", 1)
    judging.compare("judge", held_out, {"a": "old", "b": "old"}, {"a": "new", "b": "new"})
    assert "<reference>" not in sampler.shown("judge/a/new-first")
    assert SHOWN in sampler.shown("judge/b/new-second")


def three_judgments(ask: Ask) -> str | Reply:
    """Answer 0 gets 4 once, then nonsense and a failure; answer 1 gets 1, 2 and 3."""
    if "/rating-" not in ask.key:
        return f"text {ask.key[-1]}"
    answer, place = ask.key.split("answer-")[1].split("/")[0], int(ask.key.split("rating-")[1][0])
    if answer == "1":
        return f"Score: {place + 1}"
    return ("Score: 4", "banana", Reply("", "error"))[place]


def test_each_judgment_that_can_not_be_read_is_told_of_beside_the_answer_it_was_for() -> None:
    """Answer 0 has 4 of one judgment, answer 1 the mean of 1, 2 and 3."""
    made, _ = make("self_rewarding", three_judgments, [prompt("Why?")], {"candidates": 2}, tries=1)
    assert pairs(made) == [("text 0", "text 1")]
    assert (made[-1].facts["score_chosen"], made[-1].facts["score_rejected"]) == (4.0, 2.0)
    assert [one.id for one in made] == ["p/answer-0/rating-1", "p/answer-0/rating-2", "p"]
    assert rules(made) == ["judge: no verdict could be read", "judge: the engine failed"]


def test_an_answer_without_any_judgment_is_dropped_once() -> None:
    def script(ask: Ask) -> str | Reply:
        return "banana" if "answer-0/rating" in ask.key else three_judgments(ask)

    made, _ = make("self_rewarding", script, [prompt("Why?")], {"candidates": 2}, tries=1)
    assert [one.id for one in made] == ["p/answer-0", "p"]
    assert rules(made) == ["judge: no verdict could be read", "fewer than two scored answers"]


def test_the_data_stage_counts_unread_judgments_and_keeps_the_row(tmp_path: Path) -> None:
    built = algorithms.build("self_rewarding", candidates=2)
    made, _ = machinery(lambda ask: three_judgments(Ask(ask.key.split("/", 1)[1], ask.messages)))
    task = DataTask(1, built, [prompt("Why?")], built.prompts(), (), {}, [], 0, 1)
    figures = task.run(made, tmp_path)
    assert (figures["prompts"], figures["rows"], figures["judge_problems"]) == (1, 1, 2)
    assert figures["dropped"] == {"judge: no verdict could be read": 1, "judge: the engine failed": 1}
    dropped = [json.loads(line) for line in (tmp_path / DROPPED).read_text().splitlines()]
    assert [row["id"] for row in dropped] == ["p/answer-0/rating-1", "p/answer-0/rating-2"]
