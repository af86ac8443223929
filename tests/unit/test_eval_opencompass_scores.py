"""Which of OpenCompass's figures are shares of right answers, and which answers are right."""

import json
import math
from pathlib import Path

import pytest

from autoalign.evaluation.opencompass.datasets import Subset
from autoalign.evaluation.opencompass.outcome import Outcome
from autoalign.evaluation.opencompass.scores import correctness, is_share


def compared(*pairs):
    """Details as OpenCompass writes them where the evaluator gives none: what it was given, as text."""
    rows = {
        str(place): {"prompt": "q", "origin_prediction": "a", "predictions": given, "references": right}
        for place, (given, right) in enumerate(pairs)
    }
    return {"type": "GEN", **rows}


class Sets:
    """What OpenCompass left of several sets, written by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.subsets = folder, []

    def add(self, abbr, figures, details=None, *, count=4, evaluator="AccEvaluator", run=0):
        answers = {str(place): {"origin_prompt": f"q{place}", "prediction": "a"} for place in range(count)}
        told = figures if details is None else {**figures, "details": details}
        for kind, content in (("predictions", answers), ("results", told)):
            path = self.folder / kind / "m" / f"{abbr}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content))
        self.subsets.append(Subset("set", abbr, None, True, evaluator=evaluator, run=run))
        return self

    def collect(self):
        (collected,) = Outcome(self.folder, "m").collect(self.subsets)
        return collected

    def result(self):
        return self.collect().result

    def scores(self):
        return [question.score for question in self.collect().questions]


@pytest.fixture
def sets(tmp_path):
    return Sets(tmp_path)


HALF_RIGHT = compared(("A", "A"), ("B", "A"), ("C", "C"), ("", "D"))


def wilson_percent(right, count):
    """Wilson's interval as its formula stands, z = 1.959964."""
    z2, share = 1.959964**2, right / count
    center = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = 1.959964 / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    return 100 * (center - half), 100 * (center + half)


def test_answers_that_nobody_calls_right_are_so_where_they_are_the_reference(sets):
    collected = sets.add("ARC-c", {"accuracy": 50.0}, HALF_RIGHT).collect()
    assert [question.score for question in collected.questions] == [1.0, 0.0, 1.0, 0.0]
    assert collected.questions[1].details == {"predictions": "B", "references": "A"}
    result = collected.result
    assert (result.value, result.count, result.unit) == (50.0, 4, "%")
    assert (result.low, result.high) == pytest.approx(wilson_percent(2, 4), abs=1e-4)


def test_they_are_not_where_the_figure_is_another(sets):
    """As with an evaluator that makes "(B" a "B" first: 3 of 4 are right, 2 look so."""
    sets.add("set", {"accuracy": 75.0}, HALF_RIGHT)
    assert sets.scores() == [None] * 4
    assert (sets.result().low, sets.result().high) == pytest.approx(wilson_percent(3, 4), abs=1e-4)


def test_they_are_not_where_the_figure_is_no_accuracy(sets):
    """No answer is the reference, and the F1 is 0 too: it counts words, not answers."""
    sets.add("set", {"f1": 0.0}, compared(("a b", "a"), ("c", "d")), count=2)
    assert sets.scores() == [None, None]
    assert (sets.result().unit, sets.result().low) == ("", None)


def test_what_an_evaluator_says_goes_before_what_it_was_given():
    rows = [{"predictions": "1", "references": "1.0", "correct": [True]}, {"correct": [False]}]
    assert correctness(rows, "accuracy", 50.0) == [1.0, 0.0]
    assert correctness([{"pred": "a"}], "accuracy", 0.0) == [None]


def test_subsets_that_nobody_calls_right_have_an_interval(sets):
    sets.add("mmlu_a", {"accuracy": 50.0}, HALF_RIGHT)
    sets.add("mmlu_b", {"accuracy": 100.0}, compared(("A", "A"), ("B", "B")), count=2)
    result = sets.result()
    assert (result.value, result.count, result.is_macro) == (75.0, 6, True)
    assert result.low < 75.0 < result.high
    assert sets.scores() == [1.0, 0.0, 1.0, 0.0, 1.0, 1.0]


def test_each_run_is_held_to_its_own_figure(sets):
    """50% and 75% of the same answers: the second run's evaluator compares in another way."""
    sets.add("set", {"accuracy": 50.0}, HALF_RIGHT)
    sets.add("set_run1", {"accuracy": 75.0}, HALF_RIGHT, run=1)
    assert sets.scores() == [None] * 4
    assert sets.result().value == 62.5
    assert (sets.result().low, sets.result().high) == pytest.approx(wilson_percent(2.5, 4), abs=1e-4)


def test_a_metric_of_its_own_scale_is_no_percentage(sets):
    """TruthfulQA's BLEU goes from 0 to 1."""
    result = sets.add("truthful_qa", {"bleu_max": 0.31, "bleu_diff": 0.02, "bleu_acc": 0.5}).result()
    assert (result.metric, result.value, result.unit) == ("bleu_max", 0.31, "")
    assert (result.low, result.high) == (None, None)


def test_an_accuracy_of_its_own_scale_is_no_percentage(sets):
    """SuperGPQA writes 0.5 where half is right."""
    details = {str(place): {"pred": "A", "correct": place < 2} for place in range(4)}
    result = sets.add("supergpqa", {"accuracy": 0.5}, details).result()
    assert (result.value, result.unit, result.low) == (0.5, "", None)
    assert sets.scores() == [1.0, 1.0, 0.0, 0.0]
    assert result.notes == {"questions": "share of right answers"}  # for what a comparison measures


def test_a_figure_that_is_rounded_is_that_of_its_questions(sets):
    """1 of 3, as 33.33."""
    details = {str(place): {"correct": place < 1} for place in range(3)}
    result = sets.add("set", {"score": 33.33}, details, count=3, evaluator="Other").result()
    assert (result.value, result.unit) == (33.33, "%")
    assert (result.low, result.high) == pytest.approx(wilson_percent(1, 3), abs=1e-4)


def test_subsets_of_its_own_scale_have_a_mean_without_a_unit(sets):
    sets.add("a", {"rouge1": 20.0}).add("b", {"rouge1": 40.0})
    result = sets.result()
    assert (result.value, result.unit, result.low, result.is_macro) == (30.0, "", None, True)


@pytest.mark.parametrize(
    ("metric", "evaluator", "value", "answers", "share"),
    [
        ("accuracy", "AccEvaluator", 25.0, 4, True),
        ("accuracy", "AccEvaluator", 33.33, 3, True),
        ("humaneval_plus_pass@1", "HumanEvalPlusEvaluator", 50.0, 164, True),
        ("score", "BBHEvaluator", 75.0, 4, True),
        ("score", "LongBenchF1Evaluator", 75.0, 4, False),
        ("accuracy", "DS1000Evaluator", 0.31, 100, False),  # 31 of 100; 0 and 1 are its neighbours in percent
        ("pass@10", "LCBench", 50.0, 4, False),
        ("rouge1", "RougeEvaluator", 50.0, 4, False),
        ("truth", "TruthfulQAEvaluator", 0.5, 4, False),
        ("accuracy", "AccEvaluator", 150.0, 4, False),
        ("accuracy", "AccEvaluator", 50.0, 0, False),
    ],
)
def test_a_share_is_called_so_and_is_a_whole_number_of_answers(metric, evaluator, value, answers, share):
    assert is_share(metric, evaluator, value, answers) == share
