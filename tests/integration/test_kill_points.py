"""Killed at any of 20 seeded moments, mid-save among them, a run resumes to the same weights, bit for bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from autoalign.config.sft import SFTConfig
from autoalign.training.metrics import read_metrics
from autoalign.training.run import run
from tests.compare import same_tensors
from tests.kill_points import MOMENTS, moment_of
from tests.tiny import save_tiny_model, write_conversations

pytestmark = pytest.mark.slow

SEEDS, STEPS = 20, 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("killed")


@pytest.fixture(scope="module")
def config(folder: Path) -> dict[str, Any]:
    return {
        "model_name_or_path": str(save_tiny_model(folder / "model")),
        "data_path": [str(write_conversations(folder / "rows.jsonl"))],
        "output_dir": str(folder / "unbroken"),
        "cache_dir": str(folder / "cache"),
        "conv_template_name": "chatml",
        "launcher": "local",
        "cpus_per_worker": 1,
        "bf16": False,
        "learning_rate": 1e-3,
        "max_steps": STEPS,
        "save_steps": 2,
        "save_total_limit": 2,
    }


@pytest.fixture(scope="module")
def lives(folder: Path, config: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """What became of each seed's run."""
    run(SFTConfig(**config))
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    done = subprocess.run(
        [sys.executable, "-m", "tests.kill_points", str(path), "0", str(SEEDS)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        cwd=Path(__file__).resolve().parents[2],
    )
    assert done.returncode == 0, done.stderr
    return {line["seed"]: line for line in map(json.loads, done.stdout.splitlines())}


def test_the_seeds_reach_every_kind_of_moment():
    assert {moment_of(seed)[0] for seed in range(SEEDS)} == set(MOMENTS)


@pytest.mark.parametrize("seed", range(SEEDS), ids=lambda seed: f"{moment_of(seed)[0]}-{seed}")
def test_a_run_killed_there_ends_bit_equal(seed: int, lives: dict[int, dict[str, Any]], folder: Path):
    assert lives[seed]["killed"] == -9
    assert lives[seed]["resumed"] == 0, (folder / f"resumed-{seed}.log").read_text()
    output = folder / f"seed-{seed}"
    assert same_tensors(folder / "unbroken", output)
    assert [row["step"] for row in read_metrics(output / "metrics.jsonl")] == list(range(1, STEPS + 1))
    assert not list(output.glob(".*.tmp"))
    assert len(list(output.glob("checkpoint-*"))) == 2
