"""Commands that take what others wrote: `align` whole, and `infer`, `score`, `data pairs`, `dpo` by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

pytest.importorskip("torch")

from autoalign import formats, manifest
from autoalign.cli.main import main
from autoalign.cluster import ray_session
from autoalign.config.dpo import DPOConfig
from autoalign.sampling.engines.base import derive_seed
from autoalign.training.prepare import prepare
from autoalign.training.reporting import Display
from tests.tiny import save_tiny_model

pytestmark = pytest.mark.slow

QUESTIONS, SAMPLES = 4, 8


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


def call(command: str, **flags: object) -> None:
    words = [word for key, value in flags.items() for word in (f"--{key}", str(value))]
    assert main([*command.split(), *words]) == 0


def test_four_commands_need_no_glue_between_them(tmp_path: Path) -> None:
    """The fake engine's answers end in their seeds; the reference is the seed of each prompt's first one."""
    model = save_tiny_model(tmp_path / "tiny")
    names = ("prompts", "answers", "scored", "pairs")
    prompts, answers, scored, pairs = (tmp_path / f"{name}.jsonl" for name in names)
    seeds = {f"q{i}": derive_seed(42, f"q{i}", 0) for i in range(QUESTIONS)}
    rows = [{"id": name, "question": "How many?", "answer": f"#### {seed}"} for name, seed in seeds.items()]
    for row in rows:
        row["question"] += f" ({row['id']})"
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))

    sampling = {"backend": "fake", "n": SAMPLES, "temperature": 1, "template": "chatml"}
    call("infer", model_path=model, test_file=prompts, output_file=answers, **sampling)
    call("score", scorer="numeric", data_path=answers, output_file=scored)
    call(f"data pairs {scored}", output=pairs)
    found = [json.loads(line) for line in pairs.read_text().splitlines()]
    assert sorted(row["chosen_id"].split("-")[0] for row in found) == sorted(seeds)
    assert {(row["score_chosen"], row["score_rejected"]) for row in found} == {(1, 0)}

    config = DPOConfig(
        model_name_or_path=str(model),
        data_path=[str(pairs)],
        output_dir=str(tmp_path / "out"),
        cache_dir=str(tmp_path / "cache"),
        conv_template_name="chatml",
        bf16=False,
        launcher="local",
    )
    _, tables = prepare(config, str(model), tmp_path / "bad.jsonl", Display("dpo", quiet=True))
    assert len(tables.train) == 2 * QUESTIONS
