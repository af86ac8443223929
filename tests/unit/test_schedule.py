"""Learning rates against transformers' schedules."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from autoalign.config.sft import SFTConfig  # noqa: E402
from autoalign.training.schedule import learning_rate, parameter_groups, warmup_steps  # noqa: E402


def _config(**values: Any) -> SFTConfig:
    return SFTConfig(model_name_or_path="m", data_path=["d"], output_dir="o", learning_rate=1e-3, **values)


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant"])
def test_rates_equal_transformers(kind: str):
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    name = "constant_with_warmup" if kind == "constant" else kind
    scheduler = get_scheduler(name, optimizer, num_warmup_steps=3, num_training_steps=20)
    config = _config(lr_scheduler_type=kind, warmup_steps=3)
    for step in range(20):
        assert learning_rate(config, step, 20) == pytest.approx(scheduler.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        scheduler.step()


def test_warmup_ratio_rounds_up_and_warmup_steps_win():
    assert warmup_steps(_config(warmup_ratio=0.03), 50) == 2
    assert warmup_steps(_config(warmup_ratio=0.03, warmup_steps=7), 50) == 7


def test_norms_and_biases_do_not_decay():
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LayerNorm(2))
    decayed, free = parameter_groups(module, 0.1)
    assert [tuple(p.shape) for p in decayed["params"]] == [(2, 2)]
    assert decayed["weight_decay"] == 0.1
    assert free["weight_decay"] == 0.0
