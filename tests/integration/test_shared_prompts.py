"""Answers that share their prompt's computation: the loss and gradients of answers laid out apart."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from autoalign.config.dpo import DPOConfig  # noqa: E402
from autoalign.config.rm import RMConfig  # noqa: E402
from autoalign.training.examples import Layout, Pairs  # noqa: E402
from autoalign.training.metrics import read_metrics  # noqa: E402
from autoalign.training.model import load_model  # noqa: E402
from autoalign.training.objective import objective_of  # noqa: E402
from autoalign.training.prepare import prepare  # noqa: E402
from autoalign.training.reporting import Display  # noqa: E402
from autoalign.training.run import run  # noqa: E402
from tests.tiny import save_tiny_model  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def settings(tiny: Path, tmp_path: Path) -> dict[str, Any]:
    """Prompts longer than a block of queries, and answers that begin alike."""
    rows = [
        {
            "prompt": f"Question {i}: " + "what is the sum? " * (3 * i + 1),
            "chosen": f"It is {i}, as any child knows.",
            "rejected": f"It is {i}" * (i + 1),
        }
        for i in range(4)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "model_name_or_path": str(tiny),
        "data_path": [str(path)],
        "output_dir": str(tmp_path / "out"),
        "cache_dir": str(tmp_path / "cache"),
        "conv_template_name": "chatml",
        "bf16": False,
        "launcher": "local",
    }


@pytest.mark.parametrize("kind", [DPOConfig, RMConfig])
def test_sharing_changes_neither_loss_nor_gradients(kind: Any, settings: dict[str, Any], tmp_path: Path):
    options = {"precompute_ref_log_probs": False} if kind is DPOConfig else {}
    config = kind(**settings, **options)
    task, tables = prepare(
        config, config.model_name_or_path, tmp_path / "bad.jsonl", Display("x", quiet=True)
    )
    objective = objective_of(task)
    model = load_model(config, config.model_name_or_path, kind=objective.kind)
    module = objective.module(task, model)
    results, tokens = [], []
    for shares in (False, True):
        batch = Pairs(tables.train).batch(range(4), Layout(True, 0, shares), range(4))
        loss = module(batch)
        results.append((loss, *torch.autograd.grad(loss, [*model.parameters()])))
        tokens.append(batch.tokens)
    assert tokens[1] < 0.7 * tokens[0]
    for shared, apart in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(shared, apart, atol=1e-5, rtol=1e-5)


def test_a_job_shares_prompts_unless_told_not_to(settings: dict[str, Any], tmp_path: Path):
    losses = []
    for shares in (True, False):
        out = tmp_path / f"out-{shares}"
        values = {**settings, "output_dir": str(out), "share_prompts": shares, "max_steps": 3}
        run(DPOConfig(**values, learning_rate=1e-3))
        losses.append([row["loss"] for row in read_metrics(out / "metrics.jsonl")])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_a_policy_that_is_its_reference_loses_ln_2(settings: dict[str, Any], tmp_path: Path):
    """In bfloat16 too: cached log-probs were made by the same code, whatever the batch they came in."""
    config = DPOConfig(**{**settings, "bf16": True}, max_steps=1, per_device_train_batch_size=2)
    run(config)
    (row, *_) = read_metrics(Path(config.output_dir) / "metrics.jsonl")
    assert row["loss"] == pytest.approx(math.log(2), abs=1e-6)
