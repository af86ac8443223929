"""Evaluations of checkpoints that fail: what is kept for another try, and what is said of them."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

pytest.importorskip("torch")

from autoalign.config.evaluate import EvalConfig
from autoalign.config.sft import SFTConfig
from autoalign.errors import AutoAlignError, JobFailed, StoppedEarly
from autoalign.evaluation.checkpoints import _Watch, evaluated
from autoalign.evaluation.results import Result, write_results


@dataclass
class Evaluations:
    """In the place of `eval`: a figure for each model, or what `failures` says (a cell's text, an error)."""

    failures: dict[str, str | AutoAlignError] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def __call__(self, config: EvalConfig) -> None:
        assert (Path(str(config.model_path)) / "config.json").is_file()
        label = str(config.model_id).removeprefix("out-")
        self.asked.append(label)
        failure = self.failures.get(label)
        if isinstance(failure, AutoAlignError):
            raise failure
        figure = Result("quiz", "", error=failure) if failure else Result("quiz", "accuracy", 1, 100.0)
        write_results(Path(config.output_dir) / str(config.model_id) / "results.json", [figure])


@pytest.fixture
def config(tmp_path: Path) -> SFTConfig:
    places = {"output_dir": str(tmp_path / "evals"), "config_dir": str(tmp_path / "configs")}
    (tmp_path / "e.yaml").write_text(json.dumps({"backend": "hf", "benchmarks": ["mt_bench"], **places}))
    job = {"model_name_or_path": "m", "data_path": ["d"], "output_dir": str(tmp_path / "out")}
    return SFTConfig.build({**job, "eval_config": str(tmp_path / "e.yaml"), "eval_every": 2})


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "evals" / "checkpoints_to_evaluate" / "out"


def write_model(folder: Path, fingerprint: str = "this job's") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "autoalign.json").write_text(json.dumps({"fingerprint": fingerprint}))


def train(config: SFTConfig, evaluations: Evaluations, fingerprint: str = "this job's") -> None:
    """Checkpoints at 2, 3 and 4 steps, of which the one at 3 is not due."""
    with evaluated(config, evaluations):
        for name in ("checkpoint-2", "checkpoint-3", "checkpoint-4", "."):
            write_model(Path(config.output_dir) / name, fingerprint)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_a_checkpoint_whose_benchmark_failed_is_evaluated_by_the_next_run(config, kept, capsys):
    evaluations = Evaluations({"step-2": "no server"})
    with pytest.raises(JobFailed, match="evaluations are missing: step-2; the same command again"):
        train(config, evaluations)
    assert "eval: step-2: quiz failed: no server" in capsys.readouterr().err
    assert names(kept) == ["checkpoint-2"]
    for checkpoint in Path(config.output_dir).glob("checkpoint-*"):  # as `save_total_limit` would
        shutil.rmtree(checkpoint)
    evaluations.failures.clear()
    with evaluated(config, evaluations):
        pass
    assert evaluations.asked == ["step-2", "step-4", "final", "step-2"]
    assert not kept.exists()


def test_evaluations_that_raised_are_named_and_tried_again(config, kept):
    evaluations = Evaluations({"step-4": JobFailed("no room"), "final": JobFailed("no room")})
    for _ in range(2):
        with pytest.raises(JobFailed, match="evaluations are missing: step-4, final;"):
            train(config, evaluations)
    assert evaluations.asked == ["step-2", "step-4", "final", "step-4", "final"]
    assert names(kept) == ["checkpoint-4"]


def test_what_another_training_left_is_dropped(config, kept):
    write_model(kept / "checkpoint-6", "another job's")
    evaluations = Evaluations()
    train(config, evaluations)
    assert evaluations.asked == ["step-2", "step-4", "final"]
    assert not kept.exists()


def test_a_stop_ends_it_and_keeps_what_is_not_evaluated(config, kept):
    evaluations = Evaluations({"step-2": StoppedEarly("stopped")})
    with pytest.raises(StoppedEarly):
        train(config, evaluations)
    assert evaluations.asked == ["step-2"]
    assert names(kept) == ["checkpoint-2", "checkpoint-4"]


@pytest.mark.parametrize(("failure", "left"), [(None, []), ("no server", ["checkpoint-2"])])
def test_a_task_lets_the_files_go_where_all_figures_are_there(config, kept, capsys, failure, left):
    evaluations = Evaluations({"step-2": failure} if failure else {})
    watch = _Watch(config, evaluations)
    write_model(Path(config.output_dir) / "checkpoint-2")
    assert watch._keep_new() == ["step-2"]
    evaluations(watch._keys("step-2", kept / "checkpoint-2"))
    watch._task_ended("step-2")
    assert names(kept) == left
    assert ("tried again when training has ended" in capsys.readouterr().err) == bool(failure)


def test_of_torchruns_processes_one_evaluates(config, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    evaluations = Evaluations()
    train(config, evaluations)
    assert evaluations.asked == []
