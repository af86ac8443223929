"""Compiled decoder layers give eager loss and gradients, for batches of any shape, compiled once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from autoalign.config.sft import SFTConfig  # noqa: E402
from autoalign.training.batches import collate  # noqa: E402
from autoalign.training.tokens import TokenRow  # noqa: E402
from tests.rank_group import module_of  # noqa: E402
from tests.tiny import save_tiny_model  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler on this machine"),
]


def batch_of(*lengths: int):
    generator = torch.Generator().manual_seed(sum(lengths))
    rows = [
        TokenRow(torch.randint(200, (n,), generator=generator).numpy(), (torch.arange(n) > n // 2).numpy())
        for n in lengths
    ]
    return collate(rows, padding_free=True)


def test_compiled_equals_eager(tmp_path: Path):
    model = save_tiny_model(tmp_path / "model")
    config = SFTConfig(model_name_or_path=str(model), data_path=["d"], output_dir="o", bf16=False)
    eager = module_of(config)
    compiled = module_of(config.model_copy(update={"torch_compile": True}))
    torch._dynamo.utils.counters.clear()
    for batch in (batch_of(9, 17), batch_of(30), batch_of(5, 6, 7, 8)):
        losses = []
        for module in (eager, compiled):
            module.zero_grad()
            losses.append(module(batch))
            losses[-1].backward()
        torch.testing.assert_close(losses[1], losses[0], atol=1e-5, rtol=1e-5)
        for (name, left), right in zip(eager.named_parameters(), compiled.parameters(), strict=True):
            torch.testing.assert_close(
                right.grad, left.grad, atol=1e-5, rtol=1e-5, msg=lambda m, n=name: n + m
            )
    # Before attention and after it, for the layers of both kinds of neighbours, and for no batch anew.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 4
