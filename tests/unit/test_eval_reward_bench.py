"""RewardBench's accuracy and score, from rewards that are written here."""

import pytest

from autoalign.config.evaluate import EvalConfig
from autoalign.evaluation.ask import Answered, Ask
from autoalign.evaluation.benchmarks import reward_bench
from autoalign.evaluation.benchmarks.reward_bench import SECTIONS
from autoalign.evaluation.tools import Tools


class Lengths:
    """A reward model that likes long answers; it is asked side by side."""

    def __call__(self, conversations, tools):
        return [float(len(conversation.messages[-1].content)) for conversation in conversations]


def scored(tmp_path, *rows):
    """Rows: subset, chosen, rejected."""
    answered = [
        Answered(Ask(str(place), ("?",), {"subset": subset, "chosen": chosen, "rejected": rejected}), ())
        for place, (subset, chosen, rejected) in enumerate(rows)
    ]
    tools = Tools(EvalConfig.build({"model_path": "m", "reward_model": "r"}), "reward_bench", tmp_path)
    return reward_bench.scored(answered, tools, Lengths())


def test_the_share_of_pairs_told_rightly_ties_half(tmp_path):
    found = scored(tmp_path, ("chat", "long", "x"), ("chat", "x", "long"), ("code", "same", "same"))
    (result,) = found.results
    assert (result.value, result.notes["subsets"]) == (50.0, {"chat": 50.0, "code": 50.0})
    assert [question.score for question in found.questions] == [1.0, 0.0, 0.5]


def test_the_score_is_the_mean_of_sections_with_maths_as_heavy_as_code(tmp_path):
    rows = [(name, "long", "x") for names in SECTIONS.values() for name in names]
    # Three of four pairs of maths are wrong, and so is one more pair of chat, which has five subsets.
    rows += [("math-prm", "x", "long")] * 3 + [("mt-bench-easy", "x", "long")]
    figures = {result.metric: result.value for result in scored(tmp_path, *rows).results}
    assert figures["reasoning"] == pytest.approx(100 * (1 / 4 + 1) / 2)
    assert figures["chat"] == pytest.approx(100 * 5 / 6)
    assert figures["score"] == pytest.approx(100 * (5 / 8 + 5 / 6 + 1 + 1) / 4)
    assert figures["accuracy"] == pytest.approx(100 * 23 / 27)


def test_sections_without_an_error_have_the_width_of_their_pairs(tmp_path):
    rows = [(name, "long", "x") for names in SECTIONS.values() for name in names] * 2
    figures = {result.metric: result for result in scored(tmp_path, *rows).results}
    assert {(result.value, result.high) for result in figures.values()} == {(100.0, 100.0)}
    # Two pairs of each of 23 subsets. Wilson's lower end where nothing is wrong is n / (n + z^2) with
    # z^2 = 3.8415. Of reasoning maths weighs 1/2 and each of six of code 1/12: n = 1 / (1/8 + 6/288) = 48/7.
    # The score: four sections of 10, 12, 10 and 48/7 pairs, n = 16 / (1/10 + 1/12 + 1/10 + 7/48) = 37.28.
    counts = {"accuracy": 46, "chat": 10, "chat hard": 12, "safety": 10, "reasoning": 48 / 7, "score": 37.282}
    expected = {name: 100 * count / (count + 3.8415) for name, count in counts.items()}
    assert {name: result.low for name, result in figures.items()} == pytest.approx(expected, abs=0.01)
