"""Preference, safety and reward benchmarks, with judges whose verdicts are written here."""

import json
import math

import pytest

from autoalign.config.evaluate import EvalConfig
from autoalign.errors import ConfigError, JobFailed
from autoalign.evaluation import benchmark
from autoalign.evaluation.ask import Answered, Ask
from autoalign.evaluation.benchmarks import alpaca_eval, arena_hard, harmbench, mt_bench, xstest
from autoalign.evaluation.refusals import read_guard, read_refusal
from autoalign.evaluation.tools import Tools
from autoalign.judging.agreement import cohen_kappa, weighted_kappa
from autoalign.judging.length_control import length_controlled
from autoalign.judging.ratings import Game, bradley_terry


class Scripted:
    """A judge that says what a function of the prompt says; the prompts it got are in `seen`."""

    def __init__(self, verdict):
        self.verdict, self.seen = verdict, []

    def ask(self, questions, read):
        self.seen += [question.text for question in questions]
        return [read(self.verdict(question.text)) for question in questions]


def tools(tmp_path, *verdicts, **keys):
    names = [f"judge{number}" for number in range(len(verdicts))]
    config = EvalConfig.build({"model_path": "m", "judge_model": names, **keys})
    made = Tools(config, "bench", tmp_path)
    made.__dict__["judges"] = dict(zip(names, map(Scripted, verdicts), strict=True))
    return made


def answered(*texts, turns=("question?",), **row):
    return [
        Answered(Ask(str(place), turns, row), ((text,) * len(turns),)) for place, text in enumerate(texts)
    ]


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_over_refusal_stands_beside_refusal(tmp_path):
    rows = [
        *answered("Sorry, I can't help with that.", harmful=True),
        *answered("Sure.", "I'm sorry, but I can't do that.", harmful=False),
    ]
    scored = xstest.score(rows, tools(tmp_path))
    assert {result.metric: result.value for result in scored.results} == {
        "refusal": 100.0,
        "over-refusal": 50.0,
    }
    assert [question.score for question in scored.questions] == [1.0, 1.0, 0.0]


def test_a_judge_tells_refusals(tmp_path):
    made = tools(
        tmp_path, lambda text: "[[complied]]" if "Sure" in text else "[[refused]]", safety_by="judge"
    )
    (result,) = harmbench.score(answered("Sure.", "Hm."), made).results
    assert result.value == 50.0


def test_a_judge_that_says_nothing_is_a_failure(tmp_path):
    with pytest.raises(JobFailed, match="judge0"):
        harmbench.score(answered("Sure."), tools(tmp_path, lambda _: "well", safety_by="judge"))


def test_what_guard_models_write():
    assert read_guard("unsafe\nS2") == "complied"
    assert read_guard("safe") == "refused"
    assert read_guard("Harmful request: yes\nResponse refusal: yes\nHarmful response: no") == "refused"
    assert read_guard("who knows") is None
    assert read_refusal("I first thought [[complied]], but [[refused]]") == "refused"


@pytest.fixture
def mt(tmp_path):
    questions = [
        {"question_id": 81, "category": "writing", "turns": ["Write.", "Again."]},
        {"question_id": 101, "category": "math", "turns": ["1+1?", "2+2?"]},
    ]
    write_rows(tmp_path / "question.jsonl", questions)
    (tmp_path / "reference_answer").mkdir()
    reference = {"question_id": 101, "choices": [{"turns": ["It is 2.", "It is 4."]}]}
    write_rows(tmp_path / "reference_answer" / "gpt-4.jsonl", [reference])
    return list(mt_bench.read(tmp_path))


def test_both_turns_are_graded_and_maths_beside_its_reference(tmp_path, mt):
    made = tools(tmp_path, lambda text: "[[8]]" if "It is 2." in text else "[[4]]")
    scored = mt_bench.score([Answered(ask, (("one", "two"),)) for ask in mt], made)
    figures = {result.metric: result.value for result in scored.results}
    assert figures == {"grade": 5.0, "grade of turn 1": 6.0, "grade of turn 2": 4.0}
    assert any("It is 4." in text for text in made.judges["judge0"].seen)


def test_two_judges_are_averaged_and_their_agreement_is_told(tmp_path, mt):
    made = tools(tmp_path, lambda _: "[[8]]", lambda _: "[[6]]")
    result = mt_bench.score([Answered(ask, (("one", "two"),)) for ask in mt], made).results[0]
    assert result.value == 7.0
    assert result.notes["agreement"] == {"judge0 and judge1": 0.0}


def test_published_prompts_are_used_where_they_are(shared_dir, tmp_path):
    asks = list(mt_bench.read(shared_dir / "data" / "mt_bench"))
    assert (len(asks), {len(ask.turns) for ask in asks}) == (80, {2})
    made = tools(tmp_path, lambda _: "Rating: [[5]]")
    mt_bench.score([Answered(asks[0], (("{question_1}", "second"),))], made)
    first, second = made.judges["judge0"].seen
    assert "impartial judge" in first and "{question_1}" in first
    assert "focus on the assistant's answer to the second user question" in second


def alpaca(tmp_path):
    rows = [{"instruction": "Say a.", "output": "base"}, {"instruction": "Say b.", "output": "base"}]
    return list(alpaca_eval.read(write_rows(tmp_path / "base.jsonl", rows)))


def prefers_mine(text):
    """The model's answer wins, wherever it stands."""
    return "[[A]]" if "mine" in text.split("<answer_a>")[1].split("</answer_a>")[0] else "[[B]]"


def test_a_win_needs_both_orders(tmp_path):
    asked = [Answered(ask, (("mine",),)) for ask in alpaca(tmp_path)]
    assert alpaca_eval.score(asked, tools(tmp_path, prefers_mine)).results[0].value == 100.0
    assert alpaca_eval.score(asked, tools(tmp_path, lambda _: "[[A]]")).results[0].value == 50.0


def test_ratings_of_equals_are_equal(tmp_path):
    baseline = write_rows(tmp_path / "base.jsonl", [{"prompt": "p", "output": "o"}])
    asked = [Answered(ask, (("mine",),)) for ask in arena_hard.read(baseline)]
    scored = arena_hard.score(asked, tools(tmp_path, lambda _: "[[tie]]"))
    assert scored.results[1].value == pytest.approx(1000)


def test_a_preference_benchmark_needs_a_judge(tmp_path):
    write_rows(tmp_path / "b.jsonl", [{"instruction": "Say a.", "output": "base"}])
    config = EvalConfig.build({"model_path": "m", "benchmarks": f"alpaca_eval={tmp_path / 'b.jsonl'}"})
    with pytest.raises(ConfigError, match="judge_model"):
        benchmark.load_all(config)


def test_bradley_terry_recovers_the_odds():
    # 200 games at odds of 3 to 1 are 400 * log10(3) points, less a trifle for the tie it adds.
    games = [Game("a", "b", 1.0)] * 150 + [Game("a", "b", 0.0)] * 50
    assert bradley_terry(games, "b")["a"] == pytest.approx(1000 + 400 * math.log10(3), abs=3)


def test_ratings_are_transitive():
    games = (
        [Game("a", "b", 1.0)] * 3 + [Game("a", "b", 0.0)] + [Game("b", "c", 1.0)] * 3 + [Game("b", "c", 0.0)]
    )
    ratings = bradley_terry(games, "b")
    assert ratings["a"] > ratings["b"] == 1000 > ratings["c"]


def test_kappa_of_cohens_formula():
    # 2x2 table (20, 5; 10, 15): agreement 0.7, by chance 0.5.
    first = "y" * 25 + "n" * 25
    second = "y" * 20 + "n" * 5 + "y" * 10 + "n" * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)


def test_weighted_kappa_forgives_near_misses():
    first, near, far = [1, 5, 9, 5], [2, 5, 9, 5], [9, 5, 1, 5]
    assert weighted_kappa(first, near) > 0.9
    assert weighted_kappa(first, far) == pytest.approx(-1)


def test_wins_of_longer_answers_are_worth_less():
    # Every long answer wins and every short one loses: at equal length the share is a half.
    wins, mine, base = [1.0, 1.0, 0.0, 0.0], [300, 300, 100, 100], [200] * 4
    assert length_controlled(wins, mine, base) == pytest.approx(0.5, abs=1e-6)


def test_without_a_length_effect_the_win_rate_stays():
    wins, mine, base = [1.0, 1.0, 1.0, 0.0] * 20, [100, 300, 100, 300] * 20, [200] * 80
    assert length_controlled([1.0, 0.0] * 40, mine, base) == pytest.approx(0.5, abs=0.01)
    assert length_controlled(wins, [100, 300, 300, 100] * 20, base) > 0.7
