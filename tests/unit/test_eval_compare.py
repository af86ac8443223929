"""Models side by side, from files written here."""

import json
import random

import pytest

from autoalign.config.evaluate import CompareConfig
from autoalign.errors import ConfigError
from autoalign.evaluation.compare import Evaluated, differences_of, run
from autoalign.evaluation.how_asked import cautions
from autoalign.evaluation.own_parts import own_parts
from autoalign.evaluation.results import Question, Result, result_of, write_questions, write_results
from autoalign.evaluation.significance import holm, mcnemar, paired_p_value


def write_evaluation(outputs, model_id, name, scores, **keys):
    folder = outputs / model_id
    questions = [Question(str(id), score, f"question {id}", ("yes",)) for id, score in enumerate(scores)]
    write_questions(folder / "questions" / "quiz.jsonl", questions)
    write_results(folder / "results.json", [result_of("quiz", "accuracy", questions)])
    (folder / "eval.json").write_text(json.dumps({"model_name": name, "model_path": name, **keys}))


def compare(tmp_path, *models, **keys):
    return run(CompareConfig(models=list(models), output_dir=str(tmp_path), **keys))


def evaluated(name, scores):
    questions = {str(id): Question(str(id), score) for id, score in enumerate(scores)}
    return Evaluated(name, None, (), {"quiz": questions})


def test_flipped_questions_are_named(tmp_path):
    write_evaluation(tmp_path, "old_20260101_000000", "old", [1.0, 0.0, 0.0, 1.0])
    write_evaluation(tmp_path, "new_20260101_000000", "new", [1.0, 1.0, 1.0, 0.0])
    (difference,) = compare(tmp_path, "old", "new").differences
    assert [flip.id for flip in difference.better] == ["1", "2"]
    assert [flip.id for flip in difference.worse] == ["3"]
    assert difference.value == 25.0


def test_a_large_difference_is_significant(tmp_path):
    write_evaluation(tmp_path, "old_20260101_000000", "old", [0.0] * 40 + [1.0] * 10)
    write_evaluation(tmp_path, "new_20260101_000000", "new", [1.0] * 30 + [0.0] * 10 + [1.0] * 10)
    comparison = compare(tmp_path, "old", "new")
    assert comparison.differences[0].significant
    assert "new is better than old on quiz by 60.00 points" in comparison.summary()


def test_equals_are_called_different_in_5_percent_of_the_draws_at_most():
    draw, config = random.Random(7), CompareConfig(models=["a", "b"])
    called = 0
    for _ in range(100):
        first, second = ([float(draw.random() < 0.4) for _ in range(60)] for _ in range(2))
        (difference,) = differences_of(evaluated("a", first), evaluated("a again", second), config)
        called += difference.significant
    assert called <= 5


def test_a_model_and_itself_do_not_differ(tmp_path):
    for model_id in ("m_20260101_000000", "m_20260102_000000"):
        write_evaluation(tmp_path, model_id, "m", [1.0, 0.0])
    comparison = compare(tmp_path, "m_20260101_000000", "m_20260102_000000")
    assert not comparison.differences[0].significant
    assert comparison.differences[0].p_value == 1.0
    assert [each.name for each in comparison.models] == ["m_20260101_000000", "m_20260102_000000"]


def test_the_latest_evaluation_of_a_name_is_taken(tmp_path):
    write_evaluation(tmp_path, "m_20260101_000000", "m", [0.0])
    write_evaluation(tmp_path, "m_20260102_000000", "m", [1.0])
    write_evaluation(tmp_path, "other_20260102_000000", "other", [1.0])
    assert compare(tmp_path, "m", "other").models[0].folder.name == "m_20260102_000000"


def test_an_unknown_model_answers_with_those_there_are(tmp_path):
    write_evaluation(tmp_path, "m_20260101_000000", "m", [0.0])
    with pytest.raises(ConfigError, match="m_20260101_000000"):
        compare(tmp_path, "m", "n")


@pytest.mark.parametrize("models", [[], ["a"]])
def test_one_model_is_nothing_to_compare(models):
    with pytest.raises(ConfigError, match="two or more are expected, as: autoalign-cli eval compare A B"):
        CompareConfig.build({"models": models})


def test_the_report_holds_tables_flips_and_the_picture(tmp_path):
    write_evaluation(tmp_path, "old_20260101_000000", "<old>", [0.0, 0.0])
    write_evaluation(tmp_path, "new_20260101_000000", "new", [1.0, 0.0])
    folder = compare(tmp_path, "old_20260101_000000", "new", report_dir=str(tmp_path / "r")).folder
    page = (folder / "report.html").read_text()
    assert "&lt;old&gt;" in page and "<old>" not in page
    assert "data:image/png;base64," in page
    assert "**0**" in (folder / "report.md").read_text()


def test_of_several_benchmarks_some_differ_by_chance(tmp_path):
    # 6 of 6 flips: p = 2 / 2**6 = 0.031, which one of four benchmarks reaches by chance in 12% of reports.
    for name, score in (("old", 0.0), ("new", 1.0)):
        write_evaluation(tmp_path, f"{name}_20260101_000000", name, [score] * 6)
        for other in ("b", "c", "d"):
            same = [Question(str(id), 1.0) for id in range(6)]
            write_questions(tmp_path / f"{name}_20260101_000000" / "questions" / f"{other}.jsonl", same)
    first, *_ = sorted(compare(tmp_path, "old", "new").differences, key=lambda each: each.p_value)
    assert (first.p_value, first.adjusted_p) == (2 / 64, 4 * 2 / 64)
    assert not first.significant


def test_holms_example():
    # 0.01 * 4, 0.015 * 3, 0.03 * 2, and 0.04 * 1, which may not be below the one before.
    assert holm([0.04, 0.01, 0.03, 0.015]) == pytest.approx([0.06, 0.04, 0.06, 0.045])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_models_that_were_not_asked_alike_are_told(tmp_path):
    write_evaluation(tmp_path, "old_20260101_000000", "old", [1.0], temperature=0.0, limit=32)
    write_evaluation(tmp_path, "new_20260101_000000", "new", [1.0], temperature=0.7, limit=32)
    comparison = compare(tmp_path, "old", "new")
    told = "The models were not asked alike: temperature: old 0.0, new 0.7."
    assert cautions(comparison.models) == [told]
    assert told in comparison.summary()
    assert told in (comparison.folder / "report.html").read_text()
    assert "| questions of each benchmark | 32 | 32 |" in (comparison.folder / "report.md").read_text()


def test_failures_gaps_and_contamination_are_told(tmp_path):
    write_evaluation(tmp_path, "old_20260101_000000", "old", [1.0])
    write_evaluation(tmp_path, "new_20260101_000000", "new", [1.0])
    folder = tmp_path / "new_20260101_000000"
    gaps = Result("mt_bench", "grade", 79, 5.0, unit="", notes={"left_out": 1})
    write_results(folder / "results.json", [Result("bbh", "", error="no memory"), gaps])
    seen = [{"question": "1", "training_row": "a.jsonl:1"}]
    (folder / "contamination.json").write_text(json.dumps({"quiz": seen, "bbh": []}))
    assert cautions(compare(tmp_path, "old", "new").models) == [
        "new has no figure on bbh: no memory.",
        "new, mt_bench grade: 1 questions without a score are left out.",
        "new was trained on data that holds 1 questions of quiz.",
    ]


def test_a_benchmark_without_scores_of_its_questions_is_told(tmp_path):
    for name in ("old", "new"):
        write_evaluation(tmp_path, f"{name}_20260101_000000", name, [1.0])
        results = [Result("ifeval", "accuracy", 9, 50.0), Result("quiz", "accuracy", 1, 100.0)]
        write_results(tmp_path / f"{name}_20260101_000000" / "results.json", results)
    told = "ifeval: no question has a score of both old and new, so their difference is not tested."
    assert told in compare(tmp_path, "old", "new").summary()


def test_a_benchmark_that_failed_for_one_model_is_not_compared(tmp_path):
    # One of two subsets failed for the new model: the questions of the other one have scores all the same.
    write_evaluation(tmp_path, "old_20260101_000000", "old", [1.0, 1.0])
    write_evaluation(tmp_path, "new_20260101_000000", "new", [0.0, 1.0])
    broken = [Result("quiz", "", error="1 of 2 subsets, b: no memory")]
    write_results(tmp_path / "new_20260101_000000" / "results.json", broken)
    comparison = compare(tmp_path, "old", "new")
    assert comparison.differences == ()
    told = "quiz: old or new has no figure on it, so their difference is not tested."
    assert told in comparison.summary()
    assert told in (comparison.folder / "report.md").read_text()


def test_a_flipped_question_is_titled_by_its_own_part():
    prompts = ["Examples.\n\nQ: one?\nThink.", "Examples.\n\nQ: two?\nThink."]
    assert own_parts(prompts) == ["Q: one?", "Q: two?"]
    assert own_parts(["the same", "the same"]) == ["the same", "the same"]
    assert own_parts(["alone"]) == ["alone"]


def test_mcnemar_counts_the_tails():
    # Of 4 flips, 0 or 4 in one direction: 2 of 16.
    assert mcnemar(4, 0) == 0.125
    assert mcnemar(2, 2) == 1.0


def test_other_scores_are_tested_with_their_sizes():
    assert paired_p_value([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]) < 0.02
    assert paired_p_value([1.0, -2.0, 3.0, -3.0, 1.0]) > 0.3
