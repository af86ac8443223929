"""The whole loop through the command: engines in Ray actors, a real training job, a model that loads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from autoalign import formats, manifest
from autoalign.cli.main import main
from autoalign.cluster import ray_session
from tests.tiny import save_tiny_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with ray_session("local", min_cpus=3):
        yield


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RLCD over the engine that says back what it is shown, on a model of two layers."""
    folder = tmp_path_factory.mktemp("align")
    prompts = folder / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"question": f"Question {n}?"}) + "\n" for n in range(10)))
    values = {
        "model_name_or_path": str(save_tiny_model(folder / "model")), "output_dir": str(folder / "out"),
        "algorithm": "rlcd", "principles": ["Be brief."], "rounds": 2, "prompt_path": [str(prompts)],
        "held_out": 2, "backend": "fake", "template": "chatml", "max_new_tokens": 40, "verifier": "length",
        "promote_when": "not_worse",
        "training": {
            "conv_template_name": "chatml", "bf16": False, "launcher": "local", "max_steps": 2,
            "model_max_length": 256, "cache_dir": str(folder / "cache"),
        },
    }  # fmt: skip
    path = folder / "align.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_two_rounds_end_in_a_promoted_model(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["align", "--config", str(config)]) == 0
    out = config.parent / "out"
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[-1] for row in rows[1:3]] == ["promoted", "promoted"]
    assert manifest.damaged_files(out / "promoted") == []
    stages = sorted(path.name.split("-")[0] for path in (out / "stages").iterdir())
    assert stages.count("train") == stages.count("data") == 2 and stages.count("answers") == 3
    data = next((out / "stages").glob("data-*")) / "data.jsonl"
    assert formats.load(data, kind="preference").records


def test_the_same_command_again_runs_nothing(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["align", "--config", str(config)]) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("align: ")]
    assert notes and all("done before" in line for line in notes)


def test_status_and_lineage_of_a_finished_job(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["align", "status", str(config.parent / "out")]) == 0
    assert capsys.readouterr().out.count("promoted") == 2
    assert main(["align", "lineage", str(config.parent / "out"), "--row", "round-1/prompts-3"]) == 0
    assert "seed prompt prompts-3: Question 2?" in capsys.readouterr().out
