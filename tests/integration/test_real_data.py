"""The demo model on real data: convert, fine-tune, answer; the loss falls and answers come."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean

import pytest

pytest.importorskip("torch")

from autoalign.cli.main import main
from autoalign.training.metrics import read_metrics

pytestmark = pytest.mark.slow

STEPS = 6
ROWS = 8  # three epochs, so that the first and the last two steps see the same rows


def _fine_tune(model: Path, data: Path, output: Path) -> list[float]:
    """Losses of a short run on short rows, through the command line."""
    flags = {
        "model_name_or_path": model,
        "data_path": data,
        "output_dir": output,
        "max_train_samples": ROWS,
        "max_steps": STEPS,
        "model_max_length": 128,
        "overlong": "truncate",
        "learning_rate": 1e-4,
        "per_device_train_batch_size": 4,
        "warmup_ratio": 0,
        "save_steps": "none",
        "launcher": "local",
    }
    arguments = [part for key, value in flags.items() for part in (f"--{key}", str(value))]
    assert main(["sft", *arguments]) == 0
    return [row["loss"] for row in read_metrics(output / "metrics.jsonl")]


def _head(source: Path, target: Path, rows: int) -> Path:
    target.write_text("".join(source.read_text(encoding="utf-8").splitlines(keepends=True)[:rows]))
    return target


def test_gsm8k_is_converted_learned_and_answered(demo_model: Path, shared_dir: Path, tmp_path: Path):
    questions = _head(shared_dir / "data" / "gsm8k" / "train.jsonl", tmp_path / "gsm8k.jsonl", 64)
    messages = tmp_path / "messages.jsonl"
    assert main(["data", "convert", str(questions), "--to", "messages", "--output", str(messages)]) == 0
    losses = _fine_tune(demo_model, messages, tmp_path / "model")
    assert mean(losses[-2:]) < mean(losses[:2])

    test_file = _head(shared_dir / "data" / "gsm8k" / "test.jsonl", tmp_path / "test.jsonl", 4)
    answers = tmp_path / "answers.jsonl"
    flags = ["--backend", "hf", "--model-path", str(tmp_path / "model"), "--max-new-tokens", "24"]
    assert main(["infer", *flags, "--test-file", str(test_file), "--output-file", str(answers)]) == 0
    rows = [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()]
    asked = [json.loads(line)["question"] for line in test_file.read_text(encoding="utf-8").splitlines()]
    assert [row["messages"][-2]["content"] for row in rows] == asked
    assert all(row["text"].strip() for row in rows)


def test_alpaca_is_learned(demo_model: Path, shared_dir: Path, tmp_path: Path):
    alpaca = shared_dir / "data" / "demos" / "alpaca_en_demo.json"
    losses = _fine_tune(demo_model, alpaca, tmp_path / "model")
    assert mean(losses[-2:]) < mean(losses[:2])
