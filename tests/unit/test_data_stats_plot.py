"""`data stats`: figures of the scores, and the histograms as a picture."""

from __future__ import annotations

import json

import pytest

pyplot = pytest.importorskip("matplotlib.pyplot")

from autoalign.cli.data import _plot  # noqa: E402
from autoalign.cli.data._scores import quartiles  # noqa: E402
from autoalign.cli.main import main  # noqa: E402


@pytest.fixture
def scored(tmp_path):
    file = tmp_path / "s.jsonl"
    rows = [{"prompt": "Q", "completion": "a" * n, "scores": {"numeric": n}} for n in (1, 2, 3, 6)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def test_each_score_has_its_figures(scored, capsys):
    """Of 1, 2, 3, 6: mean 3; the quartiles lie 0.75, 1.5 and 2.25 steps from the first."""
    assert main(["data", "stats", scored]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["score", "count", "mean", "min", "q1", "median", "q3", "max"] in lines
    assert ["numeric", "4", "3", "1", "1.75", "2.5", "3.75", "6"] in lines


def test_pairs_have_a_score_for_each_side(tmp_path, capsys):
    row = {"prompt": "Q", "chosen": "a", "rejected": "b", "score": "numeric"}
    file = tmp_path / "p.jsonl"
    file.write_text(json.dumps({**row, "score_chosen": 1.0, "score_rejected": 0.5}))
    assert main(["data", "stats", str(file)]) == 0
    out = capsys.readouterr().out
    assert "numeric chosen" in out
    assert "numeric rejected" in out


def test_quartiles_of_one_value_are_that_value():
    assert quartiles([2.0]) == (2.0, 2.0, 2.0)


def test_the_picture_has_a_labelled_panel_for_lengths_turns_and_scores(scored, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(pyplot, "close", figures.append)
    assert main(["data", "stats", scored, "--plot", str(tmp_path / "new" / "x.png")]) == 0
    (figure,) = figures
    shown = [axes for axes in figure.axes if axes.get_visible()]
    labels = [axes.get_xlabel() for axes in shown]
    assert labels == ["prompt (characters)", "answer (characters)", "turns", "numeric"]
    assert {axes.get_ylabel() for axes in shown} == {"rows"}
    assert [sum(bar.get_height() for bar in axes.patches) for axes in shown] == [4, 4, 4, 4]
    assert (tmp_path / "new" / "x.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.undo()
    pyplot.close("all")


def test_each_bar_holds_as_many_whole_numbers():
    assert _plot.edges([1, 3]) == [0.5, 1.5, 2.5, 3.5]
    assert _plot.edges([0, 100])[:3] == [-0.5, 2.5, 5.5]
    assert _plot.edges([0.0, 0.5]) == pytest.approx([0.0125 * step for step in range(41)])


def test_another_suffix_is_refused(scored, capsys):
    assert main(["data", "stats", scored, "--plot", "x.jpg"]) == 2
    assert "ends in .png" in capsys.readouterr().err
