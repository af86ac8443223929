"""Flags of `sft` that decide how checkpoints are written, which is the best, and where else they go."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from autoalign.errors import ConfigError, JobFailed, StoppedEarly  # noqa: E402
from autoalign.training import checkpoint, memory, saving, stored_run  # noqa: E402
from autoalign.training.reporting import LocalReporter  # noqa: E402
from autoalign.training.storage import Storage, connect  # noqa: E402
from tests.sft_runs import Run, Runner, distance, read_weights  # noqa: E402
from tests.tiny import save_tiny_model, write_conversations  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sft(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    folder = tmp_path_factory.mktemp("flags")
    model = save_tiny_model(folder / "model")
    return Runner(model, write_conversations(folder / "rows.jsonl"), folder)


# Checkpoints beside training


def _threads_that_commit(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    names: set[str] = set()
    commit = checkpoint.commit

    def watched(*args):
        names.add(threading.current_thread().name)
        return commit(*args)

    monkeypatch.setattr(saving.checkpoint, "commit", watched)
    return names


@pytest.mark.parametrize(("async_save", "thread"), [(True, "checkpoint"), (False, "MainThread")])
def test_async_save(sft: Runner, monkeypatch: pytest.MonkeyPatch, async_save: bool, thread: str):
    threads = _threads_that_commit(monkeypatch)
    run = sft.fresh(save_steps=1, async_save=async_save)
    assert threads == {thread}
    assert run.checkpoints == ["checkpoint-1", "checkpoint-2"]


def test_a_checkpoint_is_of_its_own_step_whatever_training_does_meanwhile(
    sft: Runner, monkeypatch: pytest.MonkeyPatch
):
    """Its writing starts when the next step has changed the weights."""
    stepped, write_shards = threading.Event(), saving.write_shards

    def held_back(*args):
        assert stepped.wait(60)
        write_shards(*args)

    monkeypatch.setattr(saving, "write_shards", held_back)
    monkeypatch.setattr(saving.Saver, "wait", lambda saver: (stepped.set(), saver._background.wait()))
    run = sft.fresh(save_steps=2)
    whole = sft(save_steps=2, async_save=False)
    left, right = (
        folder / "checkpoint-2" / "trainer" / "state-00001.safetensors"
        for folder in (run.folder, whole.folder)
    )
    assert left.read_bytes() == right.read_bytes()


def test_without_room_for_a_copy_checkpoints_are_written_between_steps(
    sft: Runner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(memory, "spare_memory", lambda: 1000)
    threads = _threads_that_commit(monkeypatch)
    run = sft.fresh(save_steps=1)
    assert threads == {"MainThread"}
    assert "memory has 1 kB to spare" in capsys.readouterr().err
    assert distance(run.weights, sft().weights) == 0.0


# The best checkpoint


@pytest.fixture(scope="module")
def evaluated(sft: Runner) -> dict[str, Any]:
    """Flags of a run that gets worse: five steps, each evaluated and saved."""
    held_out = write_conversations(sft.scratch / "eval.jsonl", count=3)
    flags = {"eval_data_path": [str(held_out)], "eval_steps": 1, "save_steps": 1, "save_total_limit": 1}
    return {**flags, "max_steps": 5, "metric_for_best_model": "loss", "learning_rate": 3.0}


def _evaluations(run: Run) -> dict[int, float]:
    return {line["step"]: line["eval_loss"] for line in run.lines if "eval_loss" in line}


def test_metric_for_best_model_keeps_the_best_beside_the_newest(sft: Runner, evaluated: dict[str, Any]):
    run = sft(**evaluated)
    losses = _evaluations(run)
    best = min(losses, key=losses.__getitem__)
    assert best < 4
    assert run.checkpoints == sorted({f"checkpoint-{best}", "checkpoint-4"})
    assert run.manifest["best"] == {"step": best, "metric": "eval_loss", "value": losses[best]}


def test_greater_is_better(sft: Runner, evaluated: dict[str, Any]):
    run = sft(**evaluated, greater_is_better=True)
    losses = _evaluations(run)
    assert run.manifest["best"]["step"] == max(losses, key=losses.__getitem__)


@pytest.mark.parametrize("lora", [False, True])
def test_load_best_model_at_end(sft: Runner, evaluated: dict[str, Any], lora: bool):
    """It is what a job of that many steps ends with."""
    flags = {**evaluated, "load_best_model_at_end": True, "use_lora": lora}
    run = sft(**flags)
    best = run.manifest["best"]["step"]
    assert best < 4
    shorter = sft(max_steps=best, learning_rate=3.0, use_lora=lora)
    assert distance(run.weights, shorter.weights) == 0.0
    files = {path.name for path in run.folder.iterdir() if path.suffix in (".json", ".safetensors", ".jinja")}
    assert files - {"run.json"} == {
        path.name for path in shorter.folder.iterdir() if path.suffix in (".json", ".safetensors", ".jinja")
    } - {"run.json"}


def test_the_best_is_remembered_when_the_job_resumes(sft: Runner, evaluated: dict[str, Any], tmp_path: Path):
    whole = sft(**evaluated, load_best_model_at_end=True)
    out = tmp_path / "out"
    shutil.copytree(whole.folder, out, ignore=shutil.ignore_patterns("model.safetensors", "autoalign.json"))
    for path in out.glob("checkpoint-*"):
        shutil.copy(whole.folder / path.name / "model.safetensors", path)
        shutil.copy(whole.folder / path.name / "autoalign.json", path)
    state = json.loads((out / "run.json").read_text())
    del state["report"]
    (out / "run.json").write_text(json.dumps(state))
    again = sft.fresh(**evaluated, load_best_model_at_end=True, output_dir=str(out))
    assert again.manifest["best"] == whole.manifest["best"]
    assert distance(again.weights, whole.weights) == 0.0


def test_a_best_checkpoint_that_is_damaged_is_not_loaded(
    sft: Runner,
    evaluated: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    final = saving.Saver.final

    def after_damage(saver: saving.Saver, made_by: Any, best: Any, takes_best: bool) -> None:
        (saver._task.output_dir / f"checkpoint-{best.step}" / "model.safetensors").write_bytes(b"")
        final(saver, made_by, best, takes_best)

    with monkeypatch.context() as patches:
        patches.setattr(saving.Saver, "final", after_damage)
        run = sft.fresh(**evaluated, load_best_model_at_end=True)
    assert "the best checkpoint, is gone or damaged" in capsys.readouterr().err
    assert distance(run.weights, sft(max_steps=5, learning_rate=3.0).weights) == 0.0


# Copies elsewhere


def test_storage_path_holds_what_output_dir_holds(sft: Runner, tmp_path: Path):
    there = tmp_path / "there"
    run = sft.fresh(max_steps=5, save_steps=1, save_total_limit=2, storage_path=str(there))
    assert sorted(path.name for path in there.glob("checkpoint-*")) == ["checkpoint-3", "checkpoint-4"]
    assert distance(read_weights(there), run.weights) == 0.0
    for name in ("run.json", "metrics.jsonl", "autoalign.json", "checkpoint-4/autoalign.json"):
        assert (there / name).read_bytes() == (run.folder / name).read_bytes()


def _stopped(sft: Runner, monkeypatch: pytest.MonkeyPatch, **flags: Any) -> str:
    """A run that is asked to stop after its fourth step; what it says."""
    answers = iter([False, False, False, True])
    with monkeypatch.context() as patch:
        patch.setattr(LocalReporter, "should_stop", lambda _: next(answers))
        with pytest.raises(StoppedEarly) as stopped:
            sft.fresh(max_steps=6, save_steps=2, **flags)
    return str(stopped.value)


def test_a_fresh_machine_goes_on_from_the_storage(
    sft: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    there = f"file://{tmp_path / 'there'}"
    _stopped(sft, monkeypatch, output_dir=str(tmp_path / "one"), storage_path=there)
    rest = sft.fresh(max_steps=6, save_steps=2, output_dir=str(tmp_path / "two"), storage_path=there)
    assert f"fetched checkpoint-4 from {there}" in capsys.readouterr().err
    assert rest.column("step") == [1, 2, 3, 4, 5, 6]
    assert distance(rest.weights, sft(max_steps=6, save_steps=2).weights) == 0.0


def test_a_bit_flipped_there_gives_way_to_the_one_before(
    sft: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    there = tmp_path / "there"
    _stopped(sft, monkeypatch, output_dir=str(tmp_path / "one"), storage_path=str(there))
    weights = there / "checkpoint-4" / "trainer" / "state-00001.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    rest = sft.fresh(max_steps=6, save_steps=2, output_dir=str(tmp_path / "two"), storage_path=str(there))
    said = capsys.readouterr().err
    assert "checkpoint-4 is damaged (trainer/state-00001.safetensors); trying the one before it" in said
    assert "(step 2 of 6)" in said
    assert distance(rest.weights, sft(max_steps=6, save_steps=2).weights) == 0.0


def test_a_finished_model_is_fetched_and_not_trained_again(sft: Runner, tmp_path: Path):
    there = str(tmp_path / "there")
    run = sft.fresh(storage_path=there)
    again = sft.fresh(storage_path=there, output_dir=str(tmp_path / "fresh"))
    assert again.report.loss == run.report.loss
    assert distance(again.weights, run.weights) == 0.0


def test_another_jobs_storage_is_refused_with_the_difference(sft: Runner, tmp_path: Path):
    there = str(tmp_path / "there")
    sft.fresh(storage_path=there)
    with pytest.raises(ConfigError, match=r"(?s)seed: was 42, is 7\n.*--storage_path"):
        sft.fresh(storage_path=there, seed=7, output_dir=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_overwrite_output_dir_starts_anew_there_too(sft: Runner, tmp_path: Path):
    there = tmp_path / "there"
    sft.fresh(storage_path=str(there), max_steps=4, save_steps=1)
    sft.fresh(storage_path=str(there), seed=7, overwrite_output_dir=True, output_dir=str(tmp_path / "out"))
    assert list(there.glob("checkpoint-*")) == []
    assert json.loads((there / "run.json").read_text())["fingerprint"]["seed"] == 7


class _Leaving:
    """A file system that is gone from the first checkpoint's manifest on, until `is_back`."""

    def __init__(self, system: Any) -> None:
        self._system, self._is_gone, self.is_back = system, False, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._system, name)

    def open(self, path: str, mode: str) -> Any:
        self._is_gone |= "checkpoint-1/autoalign.json" in path and mode == "wb"
        if self._is_gone and not self.is_back:
            raise ConnectionError("the server is gone")
        return self._system.open(path, mode)


@pytest.fixture
def leaving(monkeypatch: pytest.MonkeyPatch) -> _Leaving:
    system = _Leaving(connect("/").system)

    def storage_of(config: Any) -> Storage | None:
        return config.storage_path and Storage(config.storage_path, system, config.storage_path)

    monkeypatch.setattr(stored_run, "storage_of", storage_of)
    return system


def test_a_storage_that_goes_away_stops_no_training(
    sft: Runner, tmp_path: Path, leaving: _Leaving, capsys: pytest.CaptureFixture[str]
):
    """The job ends with what is missing; the same command, later, copies it and trains nothing."""
    there, out = tmp_path / "there", tmp_path / "out"
    flags = {"save_steps": 1, "storage_path": str(there), "output_dir": str(out), "storage_timeout": 0.3}
    with pytest.raises(
        JobFailed, match=r"training is done and .* lacks checkpoint-1, checkpoint-2, the final"
    ):
        sft.fresh(**flags)
    said = capsys.readouterr().err
    assert f"warning: {there}: the server is gone; checkpoint-1 is not copied" in said
    assert distance(read_weights(out), sft(save_steps=1).weights) == 0.0
    assert not list(there.rglob("autoalign.json"))
    leaving.is_back = True
    before = (out / "model.safetensors").stat().st_mtime_ns
    assert sft.fresh(**flags).report.steps == 3
    assert (out / "model.safetensors").stat().st_mtime_ns == before
    assert distance(read_weights(there), read_weights(out)) == 0.0
    assert len(list(there.glob("checkpoint-*/autoalign.json"))) == 2


def test_stopped_while_the_storage_is_away_the_local_checkpoint_is_gone_on_from(
    sft: Runner, tmp_path: Path, leaving: _Leaving, monkeypatch: pytest.MonkeyPatch
):
    there, out = str(tmp_path / "there"), str(tmp_path / "out")
    flags = {"storage_path": there, "output_dir": out, "storage_timeout": 0.3}
    monkeypatch.setattr(_Leaving, "open", lambda self, path, mode: _refuse_all_but_run(self, path, mode))
    said = _stopped(sft, monkeypatch, **flags)
    assert said.endswith(f"not in storage_path: checkpoint-2, checkpoint-4: {there}: the server is gone")
    leaving.is_back = True
    rest = sft.fresh(max_steps=6, save_steps=2, **flags)
    assert distance(rest.weights, sft(max_steps=6, save_steps=2).weights) == 0.0
    assert len(list((tmp_path / "there").glob("checkpoint-*/autoalign.json"))) == 2


def _refuse_all_but_run(system: _Leaving, path: str, mode: str) -> Any:
    if mode == "wb" and not path.endswith("run.json") and not system.is_back:
        raise ConnectionError("the server is gone")
    return system._system.open(path, mode)
