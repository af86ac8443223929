"""Whose folder is it: claim, resume, refuse, clear; and is there room."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from autoalign import chat, manifest
from autoalign.config.sft import SFTConfig
from autoalign.errors import ConfigError
from autoalign.training import checkpoint, output, resuming, space
from autoalign.training.checkpoint import Progress
from autoalign.training.loop import TrainReport
from autoalign.training.task import TrainTask
from autoalign.training.world import World


def _config(folder: Path, **values: Any) -> SFTConfig:
    return SFTConfig(model_name_or_path="m", data_path=["d"], output_dir=str(folder), **values)


def _claim(config: SFTConfig, data: str = "abc") -> TrainReport | None:
    output.refuse_foreign(config)
    mine = output.fingerprint(config, data=data)
    report = output.finished(config, mine)
    if report is None:
        output.claim(config, mine)
    return report


def _checkpoint(folder: Path, step: int) -> Path:
    temporary = checkpoint.begin(folder, f"checkpoint-{step}")
    (temporary / "weights").write_text(str(step))
    return checkpoint.commit(temporary, Progress(step=step), {"fingerprint": {}})


def test_the_same_job_may_go_on(tmp_path: Path):
    assert _claim(_config(tmp_path / "o")) is None
    assert _claim(_config(tmp_path / "o", logging_steps=7)) is None


def test_another_job_is_refused_with_the_difference(tmp_path: Path):
    _claim(_config(tmp_path / "o", seed=1))
    with pytest.raises(ConfigError, match=r"seed: was 1, is 2"):
        _claim(_config(tmp_path / "o", seed=2))


def test_changed_data_are_refused(tmp_path: Path):
    _claim(_config(tmp_path / "o"), data="abc")
    with pytest.raises(ConfigError, match=r"data_digest: was 'abc', is 'xyz'"):
        _claim(_config(tmp_path / "o"), data="xyz")


def test_more_workers_with_the_same_global_batch_are_the_same_job(tmp_path: Path):
    _claim(_config(tmp_path / "o", num_workers=1, per_device_train_batch_size=8))
    assert _claim(_config(tmp_path / "o", num_workers=2, per_device_train_batch_size=4)) is None


def test_a_folder_with_other_things_is_refused_and_left_alone(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ConfigError, match=r"thesis\.tex"):
        _claim(_config(tmp_path))
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_resume_never_refuses_a_run(tmp_path: Path):
    _claim(_config(tmp_path / "o"))
    with pytest.raises(ConfigError, match="resume is never"):
        _claim(_config(tmp_path / "o", resume="never"))


def test_overwrite_deletes_the_run_and_nothing_else(tmp_path: Path):
    _claim(_config(tmp_path / "o"))
    _checkpoint(tmp_path / "o", 3)
    (tmp_path / "o" / "notes.txt").write_text("mine")
    _claim(_config(tmp_path / "o", seed=9, overwrite_output_dir=True))
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["notes.txt", "run.json"]


def test_a_finished_run_is_not_done_again(tmp_path: Path):
    config = _config(tmp_path / "o")
    _claim(config)
    output.mark_done(tmp_path / "o", TrainReport(tmp_path / "o", 5, 100, 1.0, 0.5))
    report = _claim(config)
    assert report is not None
    assert (report.steps, report.loss) == (5, 0.5)


def test_the_newest_whole_checkpoint_is_taken(tmp_path: Path):
    _checkpoint(tmp_path, 2)
    torn = _checkpoint(tmp_path, 10)
    (torn / "weights").write_text("flipped")
    said: list[str] = []
    assert checkpoint.newest_whole(tmp_path, said.append) == tmp_path / "checkpoint-2"
    assert "checkpoint-10 is damaged (weights)" in said[0]


@pytest.mark.parametrize("content", [b"", b'{"files": {', b'{"files": "\xff"}', b"[]", b'{"files": []}'])
def test_a_checkpoint_with_a_damaged_manifest_is_passed_over(tmp_path: Path, content: bytes):
    _checkpoint(tmp_path, 2)
    (_checkpoint(tmp_path, 10) / "autoalign.json").write_bytes(content)
    said: list[str] = []
    assert checkpoint.newest_whole(tmp_path, said.append) == tmp_path / "checkpoint-2"
    assert "checkpoint-10 is damaged (autoalign.json)" in said[0]


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    synced: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda opened: synced.append(Path(f"/proc/self/fd/{opened}").readlink()))
    _checkpoint(tmp_path, 3)
    *inside, last = synced
    folder = tmp_path / ".checkpoint-3.tmp"
    names = ("autoalign.json", "trainer", "trainer/state.json", "weights")
    assert set(inside) == {folder, *(folder / name for name in names)}
    assert last == tmp_path


def test_a_half_written_checkpoint_does_not_count(tmp_path: Path):
    checkpoint.begin(tmp_path, "checkpoint-4")
    assert checkpoint.find_checkpoints(tmp_path) == []


def test_only_the_newest_are_kept(tmp_path: Path):
    for step in (5, 10, 15):
        _checkpoint(tmp_path, step)
    checkpoint.prune(tmp_path, 2)
    assert [path.name for path in checkpoint.find_checkpoints(tmp_path)] == ["checkpoint-10", "checkpoint-15"]


def test_when_a_run_first_went_on_from_a_path_is_remembered(tmp_path: Path):
    start, folder = str(_checkpoint(tmp_path, 100)), tmp_path / "o"
    began = output.claim(_config(folder, resume=start), {})
    assert began == json.loads((folder / "run.json").read_text())["resumed"]["began"]
    assert output.claim(_config(folder), {}) is None
    assert output.claim(_config(folder, resume=start), {}) == began
    there = {"resumed": {"path": start, "began": "2026-01-02T03:04:05Z"}}
    assert output.claim(_config(tmp_path / "fresh", resume=start), {}, there) == "2026-01-02T03:04:05Z"
    again = output.claim(_config(folder, resume=str(_checkpoint(tmp_path, 200))), {})
    assert began is not None and again is not None and again > began


@pytest.mark.parametrize(("began", "at"), [(None, 100), ("2026-01-01T00:00:00Z", 200), ("9999", 100)])
def test_a_run_goes_on_from_what_it_saved_since_it_began_at_a_path(
    tmp_path: Path, began: str | None, at: int
):
    """Checkpoint 200 is of now; a run that begins later was sent back to 100, and 200 goes."""
    start, folder = _checkpoint(tmp_path / "a", 100), tmp_path / "b"
    _checkpoint(folder, 200)
    template = chat.get_template("chatml")
    task = TrainTask(_config(folder), "m", template, {}, resume_from=str(start), began=began)
    notes: list[str] = []
    found = resuming.find_start(task, World(0, 1, torch.device("cpu")), None, notes.append)
    assert found == (folder / "checkpoint-200" if at == 200 else start)
    assert len(notes) == (began is not None)
    assert (folder / "checkpoint-200").exists() == (began != "9999")


def test_a_path_that_is_no_checkpoint_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="is no checkpoint"):
        _claim(_config(tmp_path / "o", resume=str(tmp_path)))


def test_the_manifest_hashes_every_file(tmp_path: Path):
    folder = _checkpoint(tmp_path, 1)
    assert set(manifest.read(folder)["files"]) == {"weights", "trainer/state.json"}
    assert manifest.damaged_files(folder) == []


def test_a_full_disk_is_seen_before_the_start(tmp_path: Path):
    import torch
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(10, 100)}, tmp_path / "model.safetensors")
    config = _config(tmp_path / "o", save_steps=5)
    # 1,000 weights: 2 kB of bf16, and three checkpoints of 14 bytes a weight.
    assert space.bytes_needed(config, space.parameter_count(tmp_path)) == 2_000 + 3 * 14_000
    space.require(config, str(tmp_path), free_bytes=lambda _: 44_000)
    with pytest.raises(ConfigError, match="are free"):
        space.require(config, str(tmp_path), free_bytes=lambda _: 43_999)
