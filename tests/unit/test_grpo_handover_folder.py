"""The folder that weights are handed over in: none is left behind for good."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from autoalign.config.grpo import GRPOConfig
from autoalign.errors import ConfigError
from autoalign.reinforcement.handover import Handover, sweep


def config(folder: Path) -> GRPOConfig:
    given = {"model_name_or_path": "m", "data_path": ["x"], "output_dir": "o", "reward": ["length"]}
    return GRPOConfig.build({**given, "handover_dir": str(folder)})


def aged(folder: Path) -> Path:
    then = time.time() - 3600
    os.utime(folder, (then, then))
    return folder


def test_a_folder_goes_with_its_job(tmp_path: Path) -> None:
    handover = Handover(config(tmp_path), 0)
    assert len(list(tmp_path.iterdir())) == 1
    handover.close()
    assert not list(tmp_path.iterdir())


def test_the_next_job_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    left = tmp_path / "autoalign-weights-left"
    (left / "model").mkdir(parents=True)
    aged(left)
    Handover(config(tmp_path), 0).close()
    assert not left.exists()


def test_folders_of_living_jobs_new_ones_and_links_stay(tmp_path: Path) -> None:
    living = Handover(config(tmp_path), 0)
    (home,) = map(aged, tmp_path.iterdir())
    new = tmp_path / "autoalign-weights-new"
    new.mkdir()
    target = tmp_path / "target"
    target.mkdir()
    link = tmp_path / "autoalign-weights-link"
    link.symlink_to(target)
    sweep(tmp_path)
    assert home.exists() and new.exists() and target.exists()
    living.close()


def test_a_folder_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="handover_dir"):
        Handover(config(tmp_path / "none"), 0)
