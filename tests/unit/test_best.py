"""The best checkpoint: which evaluation counts, and that pruning leaves it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from autoalign.config.sft import SFTConfig
from autoalign.errors import ConfigError
from autoalign.training import checkpoint
from autoalign.training.best import Best, better_of, metric_name
from autoalign.training.checkpoint import Progress


def _config(**values: Any) -> SFTConfig:
    evaluated = {"eval_data_path": ["e"], "eval_steps": 2, "save_steps": 2}
    return SFTConfig(model_name_or_path="m", data_path=["d"], output_dir="o", **{**evaluated, **values})


def _best(config: SFTConfig, name: str, *values: float) -> Best | None:
    best = None
    for step, value in enumerate(values, 1):
        best = better_of(config, best, step, {name: value})
    return best


def test_the_prefix_eval_may_be_left_out():
    assert metric_name(_config(metric_for_best_model="loss")) == "eval_loss"
    assert metric_name(_config(metric_for_best_model="eval_loss")) == "eval_loss"


def test_without_a_metric_the_loss_decides_what_is_loaded():
    assert metric_name(_config(load_best_model_at_end=True)) == "eval_loss"
    assert metric_name(_config()) is None


def test_a_loss_is_better_when_less():
    assert _best(_config(metric_for_best_model="loss"), "eval_loss", 3.0, 1.0, 2.0) == Best(2, 1.0)


def test_other_figures_are_better_when_greater():
    config = _config(metric_for_best_model="rewards/accuracies")
    assert _best(config, "eval_rewards/accuracies", 0.5, 0.9, 0.7) == Best(2, 0.9)


def test_greater_is_better_decides():
    config = _config(metric_for_best_model="loss", greater_is_better=True)
    assert _best(config, "eval_loss", 3.0, 1.0) == Best(1, 3.0)


def test_of_equals_the_first_and_never_a_nan():
    config = _config(metric_for_best_model="loss")
    assert _best(config, "eval_loss", math.nan, 2.0, 2.0, math.nan) == Best(2, 2.0)


def test_an_unknown_figure_is_named_with_those_there_are():
    with pytest.raises(
        ConfigError, match=r"no figure 'eval_los' .did you mean 'eval_loss'.*it has eval_loss"
    ):
        better_of(_config(metric_for_best_model="los"), None, 1, {"eval_loss": 1.0})


@pytest.mark.parametrize("missing", ["eval_steps", "save_steps"])
def test_it_takes_evaluations_and_checkpoints(missing: str):
    with pytest.raises(ValueError, match=r"'load_best_model_at_end' needs"):
        _config(load_best_model_at_end=True, **{missing: None})


def test_each_checkpoint_has_to_be_evaluated():
    with pytest.raises(ValueError, match=r"'save_steps' \(3\) has to be a multiple of 'eval_steps' \(2\)"):
        _config(metric_for_best_model="loss", save_steps=3)


def test_pruning_leaves_the_best_and_the_newest(tmp_path: Path):
    for step in (2, 4, 6, 8):
        folder = checkpoint.begin(tmp_path, f"checkpoint-{step}")
        checkpoint.commit(folder, Progress(step=step), {}, Best(4, 0.5))
    checkpoint.prune(tmp_path, 1, best=4)
    kept = checkpoint.find_checkpoints(tmp_path)
    assert [checkpoint.step_of(path) for path in kept] == [4, 8]
    assert checkpoint.read_best(kept[1]) == Best(4, 0.5)
    assert checkpoint.read_progress(kept[1]).step == 8
