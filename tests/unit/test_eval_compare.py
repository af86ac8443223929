"""Models side by side, from files written here."""

import json
import random

import numpy
import pytest

from autoalign.cli.main import main
from autoalign.config.evaluate import CompareConfig
from autoalign.errors import ConfigError
from autoalign.evaluation import comparison_report
from autoalign.evaluation.compare import Evaluated, differences_of, run
from autoalign.evaluation.how_asked import cautions
from autoalign.evaluation.own_parts import own_parts
from autoalign.evaluation.paired import figures
from autoalign.evaluation.results import (
    Question,
    Result,
    macro_average,
    result_of,
    write_questions,
    write_results,
)
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
    return Evaluated(name, None, (Result("quiz", "accuracy"),), {"quiz": questions})


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


def test_equals_with_grades_are_called_different_in_5_percent_of_the_draws_at_most():
    # Only what has a p-value below 0.05 is significant. Mean grades of two judges, in subsets of 2 to 20.
    draw, sizes = numpy.random.default_rng(0), (2, 5, 10, 20)
    weights = numpy.concatenate([numpy.full(size, 1 / size) for size in sizes])
    called = 0
    for _ in range(1000):
        first, second = draw.integers(2, 21, (2, sum(sizes))) / 2
        called += paired_p_value(list((second - first) * weights)) < 0.05
    assert called <= 50


def test_the_interval_of_a_macro_difference_covers_the_truth():
    # Subsets of few questions, whose spread a plain bootstrap tells too small; the truth is 0.2 more.
    draw, covered = numpy.random.default_rng(0), 0
    for seed in range(400):
        first = draw.random((12, 5)) < 0.4
        second = draw.random((12, 5)) < 0.6
        subsets = [
            [
                (Question("", float(old)), Question("", float(new)))
                for old, new in zip(olds, news, strict=True)
            ]
            for olds, news in zip(first, second, strict=True)
        ]
        found = figures(subsets, 0.95, seed)
        covered += found.low <= 0.2 <= found.high
    assert 0.92 <= covered / 400 <= 0.98


def subsets(name, scores):
    """A model's `mmlu` of subsets `a` and `b`, with the mean of their means."""
    questions = {
        f"{subset}/{place}": Question(f"{subset}/{place}", score)
        for subset, part in scores.items()
        for place, score in enumerate(part)
    }
    return Evaluated(
        name, None, (macro_average("mmlu", "accuracy", list(scores.values())),), {"mmlu": questions}
    )


def test_of_subsets_the_mean_of_their_means_is_compared():
    before = subsets("old", {"a": [0.0, 0.0], "b": [1.0] * 8})
    after = subsets("new", {"a": [1.0, 0.0], "b": [1.0] * 6 + [0.0] * 2})
    (difference,) = differences_of(before, after, CompareConfig(models=["old", "new"]))
    # 0 and 100% before, 50 and 75% after. Over all questions it would be 80 and 70%.
    assert (difference.before, difference.after) == (before.results[0].value, after.results[0].value)
    assert (difference.value, difference.count) == (12.5, 10)
    # One up of weight 1/4 and two down of 1/16, 1/8 in all. Whatever their signs, the sum is 1/8, 1/4 or 3/8
    # from 0: always as large.
    assert difference.p_value == 1.0


def test_weights_of_subsets_decide_the_p_value():
    # Eight ups of 1/16 and one down of 1/2: the sum is 0. Without weights, 8 up and 1 down have p = 0.039.
    before = subsets("old", {"a": [1.0], "b": [0.0] * 8})
    after = subsets("new", {"a": [0.0], "b": [1.0] * 8})
    (difference,) = differences_of(before, after, CompareConfig(models=["old", "new"]))
    assert (difference.value, difference.p_value) == (0.0, 1.0)


def test_one_question_of_each_subset_is_drawn_among_all():
    pairs = [[(Question("", 0.0), Question("", float(place % 2)))] for place in range(40)]
    found = figures(pairs, 0.95, 42)
    # Half of 40 went up: the standard error is 0.5 / sqrt(39) = 0.08.
    assert (found.before, found.after) == (0.0, 0.5)
    assert (found.low, found.high) == pytest.approx((0.5 - 1.96 * 0.08, 0.5 + 1.96 * 0.08), abs=0.03)


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
        results = [Result(each, "accuracy") for each in ("quiz", "b", "c", "d")]
        write_results(tmp_path / f"{name}_20260101_000000" / "results.json", results)
    first, *_ = sorted(compare(tmp_path, "old", "new").differences, key=lambda each: each.p_value)
    assert (first.p_value, first.adjusted_p) == (2 / 64, 4 * 2 / 64)
    assert not first.significant


def test_questions_of_a_benchmark_without_figures_are_no_difference(tmp_path):
    for name in ("old", "new"):
        write_evaluation(tmp_path, f"{name}_20260101_000000", name, [1.0])
        left = tmp_path / f"{name}_20260101_000000" / "questions" / "mt_bench.jsonl"
        write_questions(left, [Question("81", 5.2)])
    assert [each.benchmark for each in compare(tmp_path, "old", "new").differences] == ["quiz"]


def test_questions_of_one_id_and_another_text_are_no_pair(tmp_path):
    for name, other, score in (("old", "question  2 ", 0.0), ("new", "question 3", 1.0)):
        write_evaluation(tmp_path, f"{name}_20260101_000000", name, [score] * 2)
        asked = [
            Question("0", score, "question 1"),
            Question("1", score, other),
            Question("2", score, other[:8]),
        ]
        write_questions(tmp_path / f"{name}_20260101_000000" / "questions" / "quiz.jsonl", asked)
    comparison = compare(tmp_path, "old", "new")
    # The third differs by nothing, as only the texts' words count.
    assert [flip.id for flip in comparison.differences[0].better] == ["0", "2"]
    told = "quiz: 1 questions with the same id have another text for new than for old, and are left out"
    assert told in comparison.summary()


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


def test_judges_and_data_that_were_not_alike_are_told(tmp_path):
    judged = {"judge_model": ["j"], "judge_max_new_tokens": 1024, "data_root": None}
    old = {**judged, "judge_guided": False, "max_model_len": None, "data": {"quiz": "/a", "b": "/b"}}
    new = {**judged, "judge_guided": True, "max_model_len": 2048, "data": {"quiz": "/c", "d": "/d"}}
    write_evaluation(tmp_path, "old_20260101_000000", "old", [1.0], **old, opencompass="0.5.4")
    write_evaluation(tmp_path, "new_20260101_000000", "new", [1.0], **new, opencompass="0.5.5")
    comparison = compare(tmp_path, "old", "new")
    assert cautions(comparison.models) == [
        f"The models were not asked alike: {told}."
        for told in (
            "context (tokens): old the model's own, new 2048",
            "judges held to JSON: old no, new yes",
            "OpenCompass: old 0.5.4, new 0.5.5",
            "data of quiz: old /a, new /c",
        )
    ]
    page = (comparison.folder / "report.md").read_text()
    assert "| longest verdict (tokens) | 1024 | 1024 |" in page
    assert "| data of b | /b | - |" in page


def test_what_judges_are_given_is_not_told_where_there_are_none(tmp_path):
    write_evaluation(tmp_path, "old_20260101_000000", "old", [1.0], judge_model=[], judge_max_new_tokens=1)
    write_evaluation(tmp_path, "new_20260101_000000", "new", [1.0], judge_model=[], judge_max_new_tokens=2)
    comparison = compare(tmp_path, "old", "new")
    assert cautions(comparison.models) == []
    assert "verdict" not in (comparison.folder / "report.md").read_text()


def test_a_key_that_an_older_evaluation_lacks_is_no_difference(tmp_path):
    write_evaluation(tmp_path, "old_20260101_000000", "old", [1.0])
    write_evaluation(tmp_path, "new_20260101_000000", "new", [1.0], opencompass="0.5.4", data={"quiz": "/a"})
    assert cautions(compare(tmp_path, "old", "new").models) == []


def test_a_metric_that_failed_alone_has_its_row(tmp_path):
    for name in ("old", "new"):
        write_evaluation(tmp_path, f"{name}_20260101_000000", name, [1.0])
        results = [Result("xstest", "refusal", error="no verdict"), Result("xstest", "over-refusal", 1, 2.0)]
        write_results(tmp_path / f"{name}_20260101_000000" / "results.json", results)
    comparison = compare(tmp_path, "old", "new")
    assert comparison_report.scores(comparison)[1:] == [
        ["xstest", "refusal", "-", "failed: no verdict", "failed: no verdict"],
        ["xstest", "over-refusal", "1", "2.00%", "2.00%"],
    ]
    assert cautions(comparison.models)[0] == "old has no figure on xstest refusal: no verdict."


def test_three_models_are_compared_as_typed(tmp_path, capsys):
    for number, name in enumerate(("A", "B", "C")):
        scores = [float(place < 10 * (number + 1)) for place in range(30)]
        write_evaluation(tmp_path, f"{name}_20260101_000000", name, scores)
        results = [Result(each, "accuracy", 30, 100 * (number + 1) / 3) for each in ("quiz", "b", "c")]
        write_results(tmp_path / f"{name}_20260101_000000" / "results.json", results)
    given = ["eval", "compare", "A", "B", "C", "--picture", "radar", "--output_dir", str(tmp_path)]
    assert main(given) == 0
    said, folder = capsys.readouterr().out, tmp_path / "compare" / "A_vs_B_vs_C"
    assert "B is better than A on quiz by 33.33 points (accuracy 33.33 to 66.67)" in said
    assert "C is better than A on quiz by 66.67 points (accuracy 33.33 to 100.00)" in said
    assert f"report: {folder / 'report.html'}, {folder / 'report.md'}" in said
    assert (folder / "comparison.png").read_bytes().startswith(b"\x89PNG")
    told = json.loads((folder / "differences.json").read_text())
    assert [(each["base"], each["model"], round(each["value"])) for each in told] == [
        ("A", "B", 33), ("A", "C", 67),
    ]  # fmt: skip


def test_a_model_without_an_evaluation_is_wrong_input_as_typed(tmp_path, capsys):
    write_evaluation(tmp_path, "A_20260101_000000", "A", [1.0])
    assert main(["eval", "compare", "A", "B", "--output_dir", str(tmp_path)]) == 2
    assert "no evaluation of 'B'" in capsys.readouterr().err


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
    told = "quiz: old or new lacks a figure on it, so their difference is not tested."
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


def test_an_endpoint_renders_with_the_servers_template(tmp_path):
    asked = {"template_name": None, "endpoint": "http://host/v1"}
    write_evaluation(tmp_path, "old_20260101_000000", "old", [1.0], template_name="chatml")
    write_evaluation(tmp_path, "new_20260101_000000", "new", [1.0], **asked)
    comparison = compare(tmp_path, "old", "new")
    assert "| chat template | chatml | the server's |" in (comparison.folder / "report.md").read_text()
