"""Every recipe of `configs/align/` through `ray job submit` on the demo model, over few held-out prompts."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from autoalign import algorithms, manifest
from autoalign.alignment import ledger
from tests import ray_head

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1500)]

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted(ROOT.glob("configs/align/*.yaml"))


@pytest.fixture(scope="module")
def head() -> Iterator[ray_head.Head]:
    with ray_head.running_head() as running:
        yield running


def test_there_is_a_recipe_for_every_algorithm() -> None:
    taught = {yaml.safe_load(path.read_text())["algorithm"] for path in RECIPES}
    assert taught == set(algorithms.names())


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_it_runs_to_its_table_on_a_cluster(
    recipe: Path, head: ray_head.Head, demo_model: Path, tmp_path: Path
) -> None:
    written = yaml.safe_load(recipe.read_text())
    # Of what is judged, a few prompts are enough; of what is checked few are kept.
    prompts = 8 if written["metric"] == "judge" else written["prompts_per_round"]
    flags = (
        f"--config configs/align/{recipe.name} --model_name_or_path {demo_model} --output_dir {tmp_path}/out"
    )
    flags += f" --prompts_per_round {prompts} --held_out 4 --benchmark_limit 2"
    words = f"job submit --working-dir . --address {head.address} -- python ray_jobs/align.py {flags}"
    command = [str(ray_head.RAY), *words.split()]
    done = subprocess.run(
        command, cwd=ROOT, env=head.env, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    rounds = ledger.read(tmp_path / "out").rounds
    assert len(rounds) == written["rounds"]
    for each in rounds:
        stages = tmp_path / "out" / "stages"
        assert (stages / each.stages["data"] / "data.jsonl").stat().st_size > 0
        assert manifest.damaged_files(stages / each.stages["train"] / "model") == []
    assert (tmp_path / "out" / "align.png").is_file()
