"""A figure's interval, its row in the table, its files."""

import random

import numpy
import pytest

from autoalign.evaluation import pictures, table
from autoalign.evaluation.results import (
    Question,
    Result,
    interval_of,
    interval_of_means,
    macro_average,
    read_questions,
    read_results,
    result_of,
    with_value,
    write_questions,
    write_results,
)
from autoalign.intervals import wilson


@pytest.mark.parametrize(("accuracy", "questions"), [(0.05, 200), (0.3, 164), (0.5, 64), (0.9, 500)])
def test_intervals_cover_the_true_accuracy(accuracy, questions):
    draw = random.Random(0)
    covered = 0
    for _ in range(1000):
        scores = [float(draw.random() < accuracy) for _ in range(questions)]
        _, low, high = interval_of(scores)
        covered += low <= accuracy <= high
    assert 930 <= covered <= 970


def test_a_share_is_told_in_percent():
    questions = [Question(str(place), float(place < 3)) for place in range(4)]
    result = result_of("quiz", "accuracy", questions)
    assert (result.value, result.count, result.unit) == (75.0, 4, "%")
    assert result.low < 75.0 < result.high


def test_a_question_without_a_score_is_not_counted():
    result = result_of("quiz", "accuracy", [Question("a", 1.0), Question("b", None)])
    assert (result.value, result.count) == (100.0, 1)


def test_one_grade_has_no_interval():
    graded = result_of("quiz", "grade", [Question("a", 7.0)], unit="")
    assert (graded.value, graded.low, graded.cell()) == (7.0, None, "7.00 grade, n=1")
    assert result_of("quiz", "accuracy", [Question("a", 1.0)]).low == pytest.approx(20.65, abs=0.01)


@pytest.mark.parametrize("grade", [8.0, 1.0])
def test_grades_that_are_all_alike_have_no_interval(grade):
    graded = result_of("mt_bench", "grade", [Question(str(place), grade) for place in range(20)], unit="")
    assert (graded.low, graded.high, graded.cell()) == (None, None, f"{grade:.2f} grade, n=20")


def test_shares_that_are_all_alike_have_wilsons_interval():
    ties = result_of("alpaca_eval", "win rate", [Question(str(place), 0.5) for place in range(20)])
    # z^2 = 3.8415: half a width of z / (1 + z^2 / 20) * sqrt(0.25 / 20 + z^2 / 1600) = 0.2007.
    assert ties.value == 50.0
    assert (ties.low, ties.high) == pytest.approx((29.93, 70.07), abs=0.01)


def test_no_scores_are_no_zero():
    assert result_of("quiz", "accuracy", [Question("a", None)]).error is not None


def test_a_macro_average_is_the_mean_of_its_subsets():
    result = macro_average("mmlu", "accuracy", [[1.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    assert (result.value, result.count, result.notes) == (75.0, 6, {"subsets": 2})
    # Variances 1/2 and 0, each with two questions of 3/4 * 1/4: (1/2 + 3/8) / 3 and (0 + 3/8) / 5. Divided by
    # 2 and 4 questions and by 2 ** 2 subsets, v = 79 / 1920: that of 3/16 / v = 360 / 79 questions.
    _, low, high = wilson(270 / 79, 360 / 79)
    assert (result.low, result.high) == pytest.approx((100 * low, 100 * high))


@pytest.mark.parametrize("accuracy", [0.02, 0.05, 0.3])
@pytest.mark.parametrize("subsets", [27, 57])
@pytest.mark.parametrize("sizes", [(5, 5), (5, 100), (100, 100)])
def test_intervals_of_macro_averages_cover_the_true_accuracy(accuracy, subsets, sizes):
    counts = numpy.linspace(*sizes, subsets).round().astype(int)
    means = numpy.random.default_rng(0).binomial(counts, accuracy, (1000, subsets)) / counts
    variances = means * (1 - means) * counts / (counts - 1)
    found = [interval_of_means(list(counts), *each) for each in zip(means, variances, strict=True)]
    assert 930 <= sum(low <= accuracy <= high for _, low, high in found) <= 970
    assert all(low < high for _, low, high in found)


def test_a_weight_counts_as_in_the_mean():
    # Nothing wrong in 4 questions that weigh 3/4 and in 2 that weigh 1/4: 1 / (9/16/4 + 1/16/2) questions,
    # 64/11, of which all are right; Wilson's lower end is then n / (n + z^2), with z^2 = 3.8415.
    value, low, high = interval_of_means([4, 2], [1.0, 1.0], [0.0, 0.0], [0.75, 0.25])
    assert (value, high) == (1.0, 1.0)
    assert low == pytest.approx(5.8182 / (5.8182 + 3.8415), abs=1e-4)


@pytest.mark.parametrize("accuracy", [0.5, 0.9, 0.97, 0.99])
def test_intervals_of_weighted_means_cover_the_true_accuracy(accuracy):
    # RewardBench: chat, hard chat, safety, and reasoning's maths and code, which weigh as one section.
    counts, weights = numpy.array([358, 456, 740, 447, 984]), [1 / 4, 1 / 4, 1 / 4, 1 / 8, 1 / 8]
    means = numpy.random.default_rng(0).binomial(counts, accuracy, (1000, 5)) / counts
    variances = means * (1 - means) * counts / (counts - 1)
    found = [
        interval_of_means(list(counts), list(own), list(spread), weights)
        for own, spread in zip(means, variances, strict=True)
    ]
    assert 930 <= sum(low <= accuracy <= high for _, low, high in found) <= 970


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_where_all_went_alike_a_macro_average_has_a_width(score):
    result = macro_average("mmlu", "accuracy", [[score] * 4, [score] * 4])
    _, low, high = wilson(8 * score, 8)
    assert (result.value, result.low, result.high) == (100 * score, 100 * low, 100 * high)


def test_an_interval_holds_the_figure_that_is_told_elsewhere():
    result = Result("mmlu", "accuracy", 4, 100.0, 51.0, 100.0)
    assert with_value(result, 100.00000001) == Result("mmlu", "accuracy", 4, 100.00000001, 51.0, 100.00000001)
    assert with_value(Result("mmlu", "accuracy", 4, 1.0), 2.0) == Result("mmlu", "accuracy", 4, 2.0)


def test_a_last_digit_is_no_arm_of_a_bar(tmp_path):
    pictures.bars({"a": [Result("mmlu", "accuracy", 4, 30.0, 30.000000000000004, 40.0)]}, tmp_path / "a.png")
    assert (tmp_path / "a.png").is_file()


def test_the_table_has_a_column_for_each_benchmark():
    rows = {
        "a": [Result("gsm8k", "accuracy", 32, 3.125, 0.55, 15.74), Result("xstest", "refusal", 10, 50.0)],
        "b": [Result("gsm8k", "", error="the endpoint is gone")],
    }
    header, first, second = table.cells(rows)
    assert header == ["model", "gsm8k", "xstest"]
    assert first == ["a", "3.12 [0.55, 15.74] accuracy, n=32", "50.00 refusal, n=10"]
    assert second == ["b", "failed: the endpoint is gone", "-"]


def test_a_benchmark_of_two_metrics_has_two_columns():
    results = [Result("xstest", "refusal", 1, 1.0), Result("xstest", "over-refusal", 1, 2.0)]
    header, cells = table.cells({"a": results})
    assert header == ["model", "xstest refusal", "xstest over-refusal"]
    assert cells == ["a", "1.00 refusal, n=1", "2.00 over-refusal, n=1"]


def test_a_metric_that_failed_alone_stands_beside_the_others():
    lost = Result("xstest", "refusal", error="no question has a score")
    known = Result("xstest", "over-refusal", 1, 2.0)
    assert table.cells({"a": [lost, known]}) == [
        ["model", "xstest refusal", "xstest over-refusal"],
        ["a", "failed: no question has a score", "2.00 over-refusal, n=1"],
    ]
    # It says nothing of metrics that the model was not asked for.
    assert table.cells({"a": [lost], "b": [known]})[1:] == [
        ["a", "failed: no question has a score", "-"],
        ["b", "-", "2.00 over-refusal, n=1"],
    ]


def test_a_failure_stands_in_every_column_of_its_benchmark():
    rows = {
        "a": [Result("xstest", "refusal", 1, 1.0), Result("xstest", "over-refusal", 1, 2.0)],
        "b": [Result("xstest", "", error="no")],
    }
    assert table.cells(rows)[2] == ["b", "failed: no", "failed: no"]


def test_the_bars_show_value_and_interval():
    shares = [Result("gsm8k", "accuracy", 10, 50.0, 30.0, 70.0), Result("mt", "grade", 1, 7.0, unit="")]
    (line,) = table.chart({"a": shares})
    # 2% a character: 15 to the interval, 10 to the value, 10 to the interval's end, 15 more.
    assert line == f"gsm8k accuracy  |{'#' * 15}{'=' * 10}{'-' * 10}{' ' * 15}| 50.0%"


@pytest.mark.parametrize("draw", [pictures.bars, pictures.radar])
def test_figures_with_and_without_a_percentage_are_drawn(draw, tmp_path):
    grades = [
        Result("mt", "grade", 2, 7.0, 6.0, 8.0, ""),
        Result("arena", "rating", 2, 990.0, 950.0, 1030.0, ""),
    ]
    shares = [Result(name, "accuracy", 4, 25.0, 5.0, 70.0) for name in ("a", "b", "c")]
    for name, rows in (("grades", grades), ("both", [*shares, *grades])):
        draw({"old": rows, "new": rows[:1]}, tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    draw({"old": [Result("a", "", error="gone")]}, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are drawn."""
    pyplot = pytest.importorskip("matplotlib.pyplot")
    figures = []
    monkeypatch.setattr(pyplot, "close", figures.append)
    yield figures
    monkeypatch.undo()
    pyplot.close("all")


def shares_of(*names):
    return [Result(name, "accuracy", 4, 25.0, 5.0, 70.0) for name in names]


def test_a_radar_has_no_spoke_for_what_a_model_has_no_figure_on(drawn, tmp_path):
    failed = Result("d", "", error="gone")
    pictures.radar({"old": shares_of(*"abcd"), "new": [*shares_of(*"abc"), failed]}, tmp_path / "radar.png")
    (axes,) = drawn[0].axes
    assert [label.get_text() for label in axes.get_xticklabels()] == [f"{name} accuracy" for name in "abc"]
    # The line comes back to where it began.
    assert [list(line.get_ydata()) for line in axes.get_lines()[:2]] == [[25.0] * 4] * 2


def test_two_spokes_are_no_radar(drawn, tmp_path):
    pictures.radar({"old": shares_of(*"abc"), "new": shares_of(*"ab")}, tmp_path / "radar.png")
    assert drawn[0].axes[0].name == "rectilinear"


def test_files_give_back_what_was_written(tmp_path):
    questions = [Question("a", 0.5, "?", ("x", "y"), "x", {"why": [1]})]
    results = [Result("quiz", "accuracy", 1, 50.0, 0.0, 100.0, notes={"subsets": 2})]
    write_questions(tmp_path / "q.jsonl", questions)
    write_results(tmp_path / "r.json", results)
    assert read_questions(tmp_path / "q.jsonl") == questions
    assert read_results(tmp_path / "r.json") == results
