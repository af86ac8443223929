"""What the pictures draw of the lines of metrics.jsonl, seen in matplotlib's own objects."""

import pytest

pyplot = pytest.importorskip("matplotlib.pyplot")

from autoalign.training import pictures  # noqa: E402

ROWS = [
    {"step": 1, "loss": 2.0, "rewards/margins": 0.1, "rewards/accuracies": 0.4},
    {"step": 2, "loss": 1.0, "rewards/margins": 0.3, "rewards/accuracies": 0.6},
    {"step": 2, "eval_loss": 1.5, "eval_rewards/margins": 0.2, "eval_rewards/accuracies": 0.5},
    {"step": 3, "skipped_steps": 1},
]


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """The figures that are drawn, by their file's name."""
    figures = []
    monkeypatch.setattr(pyplot, "close", figures.append)
    pictures.draw(ROWS, tmp_path, "rm: tiny")
    yield dict(zip(("loss.png", "rewards.png"), figures, strict=True))
    monkeypatch.undo()
    pyplot.close("all")


def lines(axes):
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()}


def test_the_loss_of_training_and_evaluation(drawn):
    found = lines(drawn["loss.png"].axes[0])
    assert found["training"][0] == [1, 2]
    assert found["evaluation"] == ([2], [1.5])


def test_margins_and_accuracies_of_the_evaluation(drawn):
    rewards, accuracies = drawn["rewards.png"].axes
    assert lines(rewards)["margins, evaluation"] == ([2], [0.2])
    assert lines(accuracies)["evaluation"] == ([2], [0.5])


def test_the_title_names_job_and_model(drawn):
    assert {figure.get_suptitle() for figure in drawn.values()} == {"rm: tiny"}


def test_every_axis_is_labelled_and_has_a_legend(drawn):
    for axes in (axes for figure in drawn.values() for axes in figure.axes):
        assert axes.get_xlabel() == "step"
        assert axes.get_ylabel()
        assert axes.get_legend() is not None


def test_without_a_step_nothing_is_drawn(tmp_path):
    pictures.draw([{"step": 1, "eval_loss": 1.0}], tmp_path, "sft: tiny")
    assert list(tmp_path.iterdir()) == []


def test_smoothing_is_corrected_for_its_start():
    """Weights 0.2 and 0.8 x 0.2 over their sum 0.36: (0.16 x 1 + 0.2 x 10) / 0.36."""
    assert pictures.smooth([1.0, 10.0]) == pytest.approx([1.0, 6.0])
