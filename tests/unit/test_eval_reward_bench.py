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
