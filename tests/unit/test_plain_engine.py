"""The plain engine's update: AdamW on float32 masters, with gradients clipped as PyTorch clips them."""

import pytest
import torch
from torch import nn

from autoalign.config.sft import SFTConfig
from autoalign.training.engines import plain, split_adamw
from autoalign.training.world import World

LR = 0.01


class Rows:
    """A micro-batch, which is where its numbers are."""

    def __init__(self, numbers: torch.Tensor) -> None:
        self.numbers = numbers

    def to(self, device: torch.device) -> torch.Tensor:
        return self.numbers


class Squares(nn.Module):
    """Loss: the sum of a linear layer's squared outputs."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Linear(8, 4, dtype=dtype)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.model(rows.to(self.model.weight.dtype)).float().pow(2).sum()


def micro_batches(count: int) -> list[Rows]:
    return [Rows(torch.randn(3, 8, generator=torch.Generator().manual_seed(seed))) for seed in range(count)]


class WithTower(Squares):
    """The same, with a weight that no loss looks at."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__(dtype)
        self.model.tower = nn.Parameter(torch.ones(3, 2, dtype=dtype))


def engine(dtype: torch.dtype, kind: type[Squares] = Squares, ranks: int = 1) -> plain.PlainEngine:
    config = SFTConfig(
        model_name_or_path="m",
        data_path=["d"],
        output_dir="o",
        learning_rate=LR,
        max_grad_norm=0.5,
        weight_decay=0.5 if kind is WithTower else 0.0,
    )
    world = World(rank=0, size=ranks, device=torch.device("cpu"))
    return plain.PlainEngine(kind(dtype), config, world)


def expected(dtype: torch.dtype, batches: list[Rows]) -> tuple[float, list[torch.Tensor]]:
    """PyTorch's own clipping and AdamW, on float32 gradients summed over the micro-batches."""
    module = Squares(dtype)
    masters = [nn.Parameter(weight.detach().float().clone()) for weight in module.parameters()]
    for master in masters:
        master.grad = torch.zeros_like(master)
    for batch in batches:
        (module(batch.numbers) / 10).backward()
        for weight, master in zip(module.parameters(), masters, strict=True):
            master.grad += weight.grad.float()
            weight.grad = None
    norm = float(nn.utils.clip_grad_norm_(masters, 0.5))
    torch.optim.AdamW(masters, lr=LR, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0).step()
    return norm, masters


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("bucket", [1, 8, 1000])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_an_update_is_pytorchs(monkeypatch, dtype, bucket, count):
    monkeypatch.setattr(split_adamw, "_CPU_NUMEL", bucket)
    monkeypatch.setattr(plain, "_NORM_NUMEL", bucket)
    ours = engine(dtype)
    result = ours.train_step(micro_batches(count), 10, LR)
    norm, masters = expected(dtype, micro_batches(count))
    assert result.grad_norm == pytest.approx(norm, rel=1e-6)
    held = [tensor for name, tensor in ours.state() if name.endswith(":master")]
    for got, want in zip(held, masters, strict=True):
        torch.testing.assert_close(got, want.detach(), rtol=1e-6, atol=1e-7)


def test_a_refused_step_changes_nothing_and_leaves_no_gradient():
    ours = engine(torch.bfloat16)
    before = [weight.detach().clone() for weight in ours.module.parameters()]
    ours.train_step(micro_batches(2), 10, LR, accept=lambda loss, norm: False)
    assert all(torch.equal(*pair) for pair in zip(before, ours.module.parameters(), strict=True))
    assert all(weight.grad is None for weight in ours.module.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_weight_that_never_had_a_gradient_is_saved_and_goes_on(dtype):
    ours, again = engine(dtype, WithTower), engine(dtype, WithTower)
    ours.train_step(micro_batches(1), 10, LR)
    saved = {name: tensor.clone() for name, tensor in ours.state()}
    assert torch.equal(saved["tower:exp_avg_sq"], torch.zeros(3, 2))
    again.load_state(saved, step=1)
    for each in (ours, again):
        each.train_step(micro_batches(2), 10, LR)
    held = dict(again.state())
    assert all(torch.equal(tensor, held[name]) for name, tensor in ours.state())
    assert torch.equal(again.module.model.tower, torch.ones(3, 2, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_without_a_gradient_on_any_rank_a_weight_does_not_decay(monkeypatch, dtype):
    """The other rank has no rows: its zeros add nothing to what is summed."""
    monkeypatch.setattr(plain.dist, "all_reduce", lambda tensor: None)
    ours, alone = engine(dtype, WithTower, ranks=2), engine(dtype, WithTower)
    for each in (ours, alone):
        each.train_step(micro_batches(1), 10, LR)
    assert torch.equal(ours.module.model.tower, torch.ones(3, 2, dtype=dtype))
    assert torch.equal(ours.module.model.weight, alone.module.model.weight)


def test_a_gradient_on_another_rank_is_one(monkeypatch):
    """Weight decay alone: 1 - 0.01 * 0.5 of the tower's ones, for the other rank's gradient is zero."""
    monkeypatch.setattr(plain.dist, "all_reduce", lambda tensor: tensor.add_(float(tensor.numel() == 3)))
    ours = engine(torch.float32, WithTower, ranks=2)
    ours.train_step(micro_batches(1), 10, LR)
    torch.testing.assert_close(ours.module.model.tower.detach(), torch.full((3, 2), 0.995))
