"""50 steps of DPO on real pairs: TRL's loss curve, at the same batches."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl", reason="TRL is what is compared with: pip install '.[bench]'")

from autoalign import model_folder  # noqa: E402
from autoalign.config.dpo import DPOConfig  # noqa: E402
from autoalign.training.metrics import read_metrics  # noqa: E402
from autoalign.training.prepare import prepare  # noqa: E402
from autoalign.training.reporting import Display  # noqa: E402
from autoalign.training.run import run  # noqa: E402
from benchmarks.workload import steps_of  # noqa: E402
from tests.tiny import save_tiny_model  # noqa: E402

pytestmark = pytest.mark.slow

STEPS, PAIRS_A_STEP, LENGTH, LEARNING_RATE, BETA = 50, 2, 384, 1e-3, 0.1


def _config(model: Path, pairs: Path, scratch: Path) -> DPOConfig:
    return DPOConfig(
        model_name_or_path=str(model),
        data_path=[str(pairs)],
        output_dir=str(scratch / "ours"),
        cache_dir=str(scratch / "cache"),
        conv_template_name="chatml",
        model_max_length=LENGTH,
        max_steps=STEPS,
        per_device_train_batch_size=PAIRS_A_STEP,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        warmup_ratio=0.0,
        beta=BETA,
        bf16=False,
        save_steps=None,
        launcher="local",
    )


def _trl_losses(config: DPOConfig, scratch: Path) -> list[float]:
    """DPOTrainer's loss of every step, on the pairs that our steps have."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM
    from trl import DPOConfig as TRLConfig

    from benchmarks.trl_side import TokenDPOTrainer

    model_path = Path(config.model_name_or_path)
    _, tables = prepare(config, str(model_path), scratch / "bad.jsonl", Display("dpo", quiet=True))
    losses: list[float] = []

    class Spy(TokenDPOTrainer):
        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().training_step(*args, **kwargs)
            losses.append(loss.item())
            return loss

    arguments = TRLConfig(
        output_dir=str(scratch / "trl"),
        per_device_train_batch_size=PAIRS_A_STEP,
        max_steps=STEPS,
        train_sampling_strategy="sequential",
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        beta=BETA,
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    Spy(
        model=AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32),
        args=arguments,
        train_dataset=Dataset.from_list([pair for step in steps_of(config, tables, "dpo") for pair in step]),
        processing_class=model_folder.load_tokenizer(model_path),
    ).train()
    return losses


def test_fifty_steps_of_dpo_give_trls_loss_curve(shared_dir: Path, tmp_path: Path):
    model = save_tiny_model(tmp_path / "model")
    config = _config(model, shared_dir / "data" / "demos" / "dpo_en_demo.json", tmp_path)
    ours = [row["loss"] for row in read_metrics(run(config).output_dir / "metrics.jsonl")]
    assert ours[0] == pytest.approx(math.log(2), abs=1e-5)
    assert max(ours) - min(ours) > 0.1  # the curve moves
    assert ours == pytest.approx(_trl_losses(config, tmp_path), abs=1e-4)
    assert len(ours) == STEPS
