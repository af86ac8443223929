"""Trainer and vLLM on one GPU: weights handed over while the engine sleeps and wakes."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("vllm")

from autoalign.config.grpo import GRPOConfig  # noqa: E402
from autoalign.reinforcement.run import run  # noqa: E402
from autoalign.training.metrics import read_metrics  # noqa: E402

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine"),
]
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("level", [0, 1, 2])
def test_after_sleep_the_engine_agrees_with_the_trainer(level: int, demo_model: Path, tmp_path: Path) -> None:
    """The two models' probabilities of the tokens drawn differ by what bfloat16 makes of them."""
    config = GRPOConfig.from_sources(
        ROOT / "configs" / "grpo.yaml",
        {
            "model_name_or_path": str(demo_model),
            "data_path": [str(ROOT / "data" / "align_questions.jsonl")],
            "output_dir": str(tmp_path / "out"),
            "sleep_level": level,
            "max_steps": 3,
            "learning_rate": 1e-4,
        },
    )
    run(config)
    for row in read_metrics(tmp_path / "out" / "metrics.jsonl"):
        assert row["sampling/importance_sampling_ratio"] == pytest.approx(1, abs=0.02)
