"""The recipes of `configs/align/`: rows on scripted replies, on one machine and on a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoalign.alignment import planning
from autoalign.alignment.prompts import read
from autoalign.config.align import AlignConfig
from tests.alignment_fakes import job

RECIPES = sorted((Path(__file__).resolve().parents[2] / "configs" / "align").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_makes_rows_in_every_round(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.chdir(recipe.parents[2])
    config = AlignConfig.from_sources(recipe, {})
    sets = read(config)
    for number in range(1, config.rounds + 1):
        plan = planning.plan_round(config, sets, number)
        assert plan.rows > 0 and plan.texts.total() > 0
        job = config.train_config(number, "m", ["d.jsonl"], "o")
        assert (job.output_dir, job.launcher, job.num_workers) == ("o", "local", 1)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_runs_on_a_cluster_with_another_model_and_more_replicas(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(recipe.parents[2])
    changed = {"model_name_or_path": "/mnt/cluster/models/M", "num_replicas": 8}
    config = AlignConfig.from_sources(recipe, changed)
    for number in range(1, config.rounds + 1):
        assert planning.plan_round(config, read(config), number).rows > 0
        job = config.train_config(number, config.model_name_or_path, ["d.jsonl"], "o")
        assert (job.launcher, job.num_workers) == ("ray", 8)
    assert config.engine_config(config.model_name_or_path).num_replicas == 8
    # Nothing of the demo model is left in it.
    assert "smollm2" not in str([config.models, config.training, config.engine])


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_promotes_what_is_better_and_watches_a_benchmark(recipe: Path) -> None:
    config = AlignConfig.from_sources(recipe, {})
    assert config.promotion(config.rounds) in ("better", "significant") and config.max_forgetting == 0.0
    # What a method learns before its own rounds is no rival of the policy's.
    assert "always" not in config.promote_when[1:] and "not_worse" not in config.promote_when
    assert config.benchmark_path not in ([], config.prompt_path)
    assert config.rounds == 1 or config.on_worse == "continue"


@pytest.mark.parametrize(
    ("settings", "address", "launcher", "workers"),
    [
        ({}, None, "local", 1),
        ({}, "10.0.0.1:6379", "ray", 1),
        ({"ray_address": "auto"}, None, "ray", 1),
        ({"num_replicas": 4}, None, "ray", 4),
        ({"num_replicas": 4, "training": {"num_workers": 2}}, None, "ray", 2),
        ({"training": {"max_failures": 1}}, None, "ray", 1),
        ({"num_replicas": 4, "training": {"launcher": "local"}}, "10.0.0.1:6379", "local", 1),
    ],
)
def test_a_training_runs_where_the_engines_do(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict,
    address: str | None,
    launcher: str,
    workers: int,
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)
    made = job(tmp_path, **settings)._config.train_config(1, "m", ["d.jsonl"], "o")
    assert (made.launcher, made.num_workers) == (launcher, workers)
