"""`infer`, `score`, `data pairs`, and what `dpo` reads: each command takes what the one before it wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from autoalign.cli.main import main
from autoalign.config.dpo import DPOConfig
from autoalign.sampling.engines.base import derive_seed
from autoalign.training.prepare import prepare
from autoalign.training.reporting import Display
from tests.tiny import save_tiny_model

pytestmark = pytest.mark.slow

QUESTIONS, SAMPLES = 4, 8


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
