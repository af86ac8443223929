"""Self-rewarding's first step (arXiv:2401.10020, section 3.1): judging learned from ranked human answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from autoalign import algorithms
from autoalign.algorithms import Ask, Dropped, Example, Made, Reply
from autoalign.alignment import planning
from autoalign.alignment.prompts import read
from autoalign.config.align import AlignConfig
from autoalign.errors import ConfigError
from autoalign.judging.forms import POINTS
from tests.scripted_models import by_key, make, prompt, rules

ROOT = Path(__file__).resolve().parents[2]
GIVEN = prompt("Why?", answer="Because of rain.", rejected="No.")
ONCE = {"stage": "judge", "judgments": 1}


def said(points: int) -> str:
    return f"It has to do with the question.\nScore: {points}"


def examples(made: Sequence[Made]) -> dict[str, str]:
    """What the assistant says in each example, by its id."""
    return {one.id: one.messages[-1].content for one in made if isinstance(one, Example)}


def drops(made: Sequence[Made]) -> dict[str, str]:
    return {one.id: one.rule for one in made if isinstance(one, Dropped)}


def test_both_answers_are_rated_and_judgments_that_rank_as_people_do_are_learned() -> None:
    script = by_key({"better-0/rating-0": said(4), "worse-0/rating-0": said(1)})
    (human, better, worse), models = make("self_rewarding", script, [GIVEN], ONCE)
    assert models.keys == ["p/better-0/rating-0", "p/worse-0/rating-0"]
    assert {(ask.model, ask.temperature, ask.top_p) for ask in models.asks} == {("policy", 0.7, 0.9)}
    assert isinstance(human, Example) and isinstance(better, Example) and isinstance(worse, Example)
    assert [(one.role, one.content) for one in human.messages] == [
        ("user", "Why?"), ("assistant", "Because of rain."),
    ]  # fmt: skip
    assert better.messages[:-1] == models.ask("p/better-0/rating-0").messages
    assert worse.messages[:-1] == models.ask("p/worse-0/rating-0").messages
    assert "<answer>\nBecause of rain.\n</answer>" in better.messages[0].content
    assert "<answer>\nNo.\n</answer>" in worse.messages[0].content
    assert [one.messages[-1].role for one in (better, worse)] == ["assistant", "assistant"]
    assert (better.messages[-1].content, worse.messages[-1].content) == (said(4), said(1))
    assert (better.facts, worse.facts) == ({"points": 4, "other_points": 1}, {"points": 1, "other_points": 4})
    assert [one.reason for one in (human, better, worse)] == [
        "the human answer",
        "the judgments of this draw give the better human answer more points",
        "the judgments of this draw give the better human answer more points",
    ]


def test_judgments_of_a_draw_stay_together() -> None:
    """Draw 0: 4 over 2. Draw 1: 3 against 3. Draw 2: 1 under 5. The means, 8/3 and 10/3, decide nothing."""
    points = {"better": (4, 3, 1), "worse": (2, 3, 5)}
    replies = {
        f"{side}-{n}/rating-0": said(each) for side, given in points.items() for n, each in enumerate(given)
    }
    made, models = make("self_rewarding", by_key(dict(replies)), [GIVEN], {"stage": "judge"})
    assert models.keys == [f"p/{side}-{n}/rating-0" for n in range(3) for side in ("better", "worse")]
    assert examples(made) == {"p/human": "Because of rain.", "p/better-0": said(4), "p/worse-0": said(2)}
    assert drops(made) == {
        "p/better-1": "both answers get the same points",
        "p/worse-1": "both answers get the same points",
        "p/better-2": "the worse answer gets more points",
        "p/worse-2": "the worse answer gets more points",
    }
    assert [one.facts for one in made if isinstance(one, Dropped)] == [
        {"points": 3}, {"points": 3}, {"points": 1}, {"points": 5},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("reply", "rule"),
    [
        (Reply("Quite good."), "judge: no verdict could be read"),
        (Reply("Quite good.\nScore: 4", "length"), "judge: cut off at max_new_tokens"),
        (Reply("I'm sorry, but I can't rate this. Score: 4"), "judge: it refused"),
    ],
)
def test_a_judgment_that_is_not_whole_is_asked_for_again_and_takes_the_other_with_it(
    reply: Reply, rule: str
) -> None:
    def script(ask: Ask) -> str | Reply:
        return reply if "/better-" in ask.key else said(1)

    made, models = make("self_rewarding", script, [GIVEN], ONCE, tries=2)
    assert models.keys == ["p/better-0/rating-0", "p/worse-0/rating-0", "p/better-0/rating-0#2"]
    assert list(examples(made)) == ["p/human"]
    assert drops(made) == {"p/better-0": rule, "p/worse-0": "the other answer has no judgment"}


def test_a_judgment_that_is_read_at_the_second_try_is_learned_on_the_first_question() -> None:
    replies = {
        "better-0/rating-0": "Hm.", "better-0/rating-0#2": said(5), "worse-0/rating-0": said(0),
    }  # fmt: skip
    made, _ = make("self_rewarding", by_key(dict(replies)), [GIVEN], ONCE)
    assert examples(made) == {"p/human": "Because of rain.", "p/better-0": said(5), "p/worse-0": said(0)}


def test_the_judge_is_not_shown_the_better_answer_as_a_reference() -> None:
    given = replace(GIVEN, reference="Because of rain.")
    script = by_key({"better-0/rating-0": said(4), "worse-0/rating-0": said(1)})
    _, models = make("self_rewarding", script, [given], ONCE)
    assert models.shown("p/worse-0/rating-0").count("Because of rain.") == 0


def test_prompts_without_two_ranked_answers_are_not_judged() -> None:
    """One with an answer alone is an instruction row, as the paper's IFT rows are of other prompts."""
    given = [
        prompt("Who?", "alone", answer="She."),
        prompt("How?", "bare"),
        prompt("When?", "equal", answer="Now.", rejected="Now."),
    ]
    made, models = make("self_rewarding", by_key({}), given, ONCE)
    assert models.asks == []
    assert examples(made) == {"alone/human": "She.", "equal/human": "Now."}
    assert drops(made) == {"bare": "the prompt has no better and worse answer"}
    made, _ = make("self_rewarding", by_key({}), given, {**ONCE, "with_originals": False})
    assert rules(made) == ["the prompt has no better and worse answer"] * 3


def four_to(worse: dict[str, int]) -> tuple[list[algorithms.Prompt], dict[str, str | Reply]]:
    """Prompts whose better answer gets 4 points, and what their worse one gets."""
    given = [replace(GIVEN, id=name) for name in worse]
    replies: dict[str, str | Reply] = {"better-0/rating-0": said(4)}
    return given, replies | {f"{name}/worse-0/rating-0": said(points) for name, points in worse.items()}


def test_the_most_common_points_are_thinned_to_the_number_of_the_next() -> None:
    """Points 4 four times, 2 twice, 1 and 3 once: two of the 4s are left."""
    given, replies = four_to({"a": 1, "b": 2, "c": 2, "d": 3})
    left = []
    for seed in (*range(20), 0):
        made, _ = make("self_rewarding", by_key(replies), given, ONCE, seed=seed)
        points = [one.facts["points"] for one in made if isinstance(one, Example) and "points" in one.facts]
        assert sorted(points) == [1, 2, 2, 3, 4, 4]
        assert rules(made) == ["its points are the most common ones"] * 2
        left.append({key for key in examples(made) if "better" in key})
    assert left[0] == left[-1] and any(each != left[0] for each in left)  # the seed draws which ones


def test_points_are_not_thinned_where_that_is_off() -> None:
    given, replies = four_to({"a": 1, "b": 2, "c": 2, "d": 3})
    made, _ = make("self_rewarding", by_key(replies), given, {**ONCE, "even_points": False})
    assert len(made) == 4 + 8 and rules(made) == []


def test_a_guided_judge_is_taught_in_its_own_form() -> None:
    def script(ask: Ask) -> str:
        return f'{{"reason": "so", "score": {3 if "/better-" in ask.key else 2}}}'

    made, _ = make("self_rewarding", script, [GIVEN], ONCE, judge_guided=True)
    _, better, worse = made
    assert isinstance(better, Example) and isinstance(worse, Example)
    assert better.messages[0].content.endswith(POINTS.guide.ask)
    assert worse.messages[-1].content == '{"reason": "so", "score": 2}'


def test_the_stage_decides_what_is_made_and_how_it_is_trained() -> None:
    judge, answer = (algorithms.build("self_rewarding", stage=stage) for stage in ("judge", "answer"))
    assert (judge.makes, judge.training) == ("examples", {})
    assert (answer.makes, answer.training) == ("pairs", {"loss_type": ["sigmoid"], "beta": 0.1})
    assert algorithms.build("self_rewarding").options == answer.options
    with pytest.raises(ConfigError, match="stage is 'jugde'; expected judge or answer"):
        algorithms.build("self_rewarding", stage="jugde")


def test_the_recipe_fine_tunes_on_the_ranked_pairs_and_then_asks_other_prompts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    config = AlignConfig.from_sources(ROOT / "configs" / "align" / "self_rewarding_judge.yaml", {})
    sets = read(config)
    first, second = (sets.of_round(number, config.prompts_per_round) for number in (1, 2))
    assert len(first) == 12 and all(each.answer and each.rejected for each in first)
    assert len(second) == 12 and not any(each.answer for each in second)
    jobs = [config.train_config(number, "m", ["d.jsonl"], "o").job for number in (1, 2)]
    assert jobs == ["sft", "dpo"]
    # 12 prompts, 2 answers, 2 judgments of each; then 4 answers and a judgment of each.
    plans = [planning.plan_round(config, sets, number) for number in (1, 2)]
    assert [plan.texts for plan in plans] == [{"policy": 48}, {"policy": 12 * (4 + 4)}]
