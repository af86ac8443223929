"""Guided judges: their JSON read strictly, what the engine is asked for, and engines that can't."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from autoalign import algorithms, synthesis
from autoalign.algorithms import Ask, Pair, Reply
from autoalign.algorithms.sso import PRINCIPLES, Principles
from autoalign.alignment import planning
from autoalign.alignment.prompts import read
from autoalign.alignment.run import prepare
from autoalign.config.align import AlignConfig
from autoalign.errors import ConfigError, ModelError
from autoalign.judging.forms import POINTS, PREFERENCE
from autoalign.sampling.engines.base import Completion, EngineOptions, GenerationRequest, SamplingParams
from autoalign.sampling.pool import Outcome
from autoalign.sampling.prompts import PlainRenderer
from autoalign.sampling.setup import Setup
from autoalign.synthesizing.texts import TextStore
from autoalign.synthesizing.writer import Writer
from tests.scripted_models import by_key, make, pairs, prompt, rules

QUESTIONS = Path(__file__).parents[2] / "data" / "align_questions.jsonl"


def points(score: object, reason: object = "It answers.") -> str:
    return json.dumps({"reason": reason, "score": score})


def preference(choice: str) -> str:
    return json.dumps({"reason": "It is clearer.", "preference": choice})


# What is read.


def test_guided_points_are_a_whole_number_from_0_to_5() -> None:
    assert [POINTS.read_guided(points(score)) for score in range(6)] == [0, 1, 2, 3, 4, 5]
    for wrong in (6, -1, 2.5, 3.0, "4", True, None):
        assert POINTS.read_guided(points(wrong)) is None


@pytest.mark.parametrize(
    "text",
    [
        "Score: 4",
        'So: {"reason": "good", "score": 4}',
        '{"reason": "good", "score": 4} Score: 4',
        '{"score": 4}',
        '{"reason": "good", "score": 4, "confidence": 1}',
        '[{"reason": "good", "score": 4}]',
        '{"reason": "good", "score":',
    ],
)
def test_nothing_but_an_object_of_the_schema_is_read(text: str) -> None:
    assert POINTS.read_guided(text) is None


def test_guided_preferences_and_principles() -> None:
    said = ["A", "B", "tie", "C", "a", ""]
    assert [PREFERENCE.read_guided(preference(each)) for each in said] == ["A", "B", "tie", None, None, None]
    both = {"good_principle": "Be brief.", "bad_principle": "Be long."}
    assert PRINCIPLES.read_guided(json.dumps(both)) == Principles("Be brief.", "Be long.")
    assert PRINCIPLES.read_guided(json.dumps({**both, "bad_principle": " "})) is None


# What is asked, and what becomes of it.


def test_a_guided_rating_is_asked_for_as_json_of_the_schema() -> None:
    replies: dict[str, str | Reply] = {"answer-0": "zero", "answer-1": "one"}
    replies |= {"answer-0/rating-0": points(1), "answer-1/rating-0": points(4)}
    options = {"candidates": 2, "judgments": 1}
    (pair,), models = make("self_rewarding", by_key(replies), [prompt("Why?")], options, judge_guided=True)
    assert isinstance(pair, Pair) and (pair.chosen, pair.rejected) == ("one", "zero")
    schema = json.loads(models.ask("p/answer-0/rating-0").json_schema or "")
    assert list(schema["properties"]) == ["reason", "score"]  # reasons first
    assert schema["properties"]["score"]["enum"] == [0, 1, 2, 3, 4, 5]
    assert models.shown("p/answer-0/rating-0").endswith(POINTS.guide.ask)
    assert models.ask("p/answer-0").json_schema is None


def test_a_free_judge_is_asked_as_ever() -> None:
    _, models = make("online_dpo", lambda ask: f"{ask.key} [[A]]", [prompt("Why?")])
    assert {ask.json_schema for ask in models.asks} == {None}
    assert PREFERENCE.guide.ask not in models.shown("p/online/ab")


def test_guided_comparisons_make_pairs() -> None:
    def script(ask: Ask) -> str:
        if ask.model == "policy":
            return f"text {ask.key[-1]}"
        return preference("A" if ask.key.endswith("ab") else "B")

    made, models = make("online_dpo", script, [prompt("Why?")], judge_guided=True)
    assert pairs(made) == [("text 0", "text 1")]
    assert {ask.json_schema for ask in models.asks if ask.model == "judge"} == {PREFERENCE.guide.schema}


def test_a_guided_judge_may_still_refuse_fail_or_be_cut_off() -> None:
    said = {
        "a": Reply(points(5)[:-4], "length"),
        "b": Reply(points(5, "I'm sorry, but I can't rate this.")),
        "c": Reply("", "error"),
        "d": Reply("Score: 5"),
    }

    def script(ask: Ask) -> str | Reply:
        name, what = ask.key.split("/", 1)
        return said[name] if "answer-0/rating" in what else points(2) if "rating" in what else what

    options = {"candidates": 2, "judgments": 1}
    given = [prompt("Why?", name) for name in said]
    made, models = make("self_rewarding", script, given, options, judge_guided=True, tries=2)
    assert [rule for rule in rules(made) if rule.startswith("judge")] == [
        "judge: cut off at max_new_tokens",
        "judge: it refused",
        "judge: the engine failed",
        "judge: no verdict could be read",
    ]
    assert "d/answer-0/rating-0#2" in models.keys


def test_a_judge_pair_holds_the_question_as_it_was_asked() -> None:
    """Judgments 1 and 5 of one answer; the meta-judge prefers the one of 5 points."""

    def script(ask: Ask) -> str:
        if "/meta-" in ask.key:
            text = ask.messages[-1].content
            return preference("A" if text.index('"score": 5') < text.index('"score": 1') else "B")
        return points(1 if ask.key.endswith("0") else 5) if "/rating-" in ask.key else ask.key

    made, _ = make(
        "meta_rewarding", script, [prompt("Why?")], {"candidates": 1, "judgments": 2}, judge_guided=True
    )
    (pair,) = (one for one in made if isinstance(one, Pair))
    assert (pair.chosen, pair.rejected) == (points(5), points(1))
    assert pair.prompt[-1].content.endswith(POINTS.guide.ask)


# Engines.


def test_the_schema_reaches_the_engine(tmp_path: Path) -> None:
    seen: list[GenerationRequest] = []

    class Pool:
        def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[Outcome]:
            seen.extend(requests)
            yield from (Outcome(number, Completion("x", "stop", 1, 1), None) for number in range(2))

    setup = Setup(EngineOptions("m"), SamplingParams(), PlainRenderer())
    with TextStore(tmp_path / "texts.jsonl", False) as store:
        writer = Writer(setup, 1, "m", store, Pool)
        asked = prompt("Why?").messages
        writer([synthesis.Ask("a", asked, json_schema='{"type": "object"}'), synthesis.Ask("b", asked)])
    assert [request.params.json_schema for request in seen] == ['{"type": "object"}', None]


def config(tmp_path: Path, **values: object) -> AlignConfig:
    return AlignConfig.build(
        {
            "model_name_or_path": str(tmp_path / "none"),
            "output_dir": str(tmp_path / "out"),
            "algorithm": "self_rewarding",
            "prompt_path": str(QUESTIONS),
            "metric": "judge",
            "judge_guided": True,
            **values,
        }
    )


def test_an_engine_that_can_not_be_held_to_a_schema_is_refused_before_anything(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="'judge_guided', role judge: the hf backend has no json_schema; use"
    ):
        prepare(config(tmp_path, backend="hf"))


def test_only_engines_that_judge_have_to(tmp_path: Path) -> None:
    judge = {"backend": "openai", "model_path": "x", "base_url": "http://localhost:1/v1"}
    with pytest.raises(ConfigError, match="role policy: the hf backend"):
        prepare(config(tmp_path, backend="hf", models={"judge": judge}))  # the policy rates its answers
    with pytest.raises(ModelError, match="none"):  # nothing left to complain of but the model folder
        prepare(config(tmp_path, backend="hf", models={"judge": judge}, options={"judge": "judge"}))


@pytest.mark.parametrize(
    ("name", "options", "roles"),
    [
        ("self_rewarding", {}, ("policy",)),
        ("meta_rewarding", {}, ("policy",)),
        ("sso", {}, ("strong",)),
        ("sppo", {}, ("judge",)),
        ("rft", {}, ()),
    ],
)
def test_who_judges(name: str, options: dict[str, object], roles: tuple[str, ...]) -> None:
    assert algorithms.build(name, **options).judges == roles


@pytest.mark.parametrize("name", ["self_rewarding", "meta_rewarding", "online_dpo", "sppo", "sso"])
def test_a_plan_reads_guided_judges(tmp_path: Path, name: str) -> None:
    """Half of the prompts or so make a row; none would where verdicts could not be read."""
    given = config(tmp_path, algorithm=name, prompts_per_round=20)
    assert planning.plan_round(given, read(given), 1).rows >= 3
