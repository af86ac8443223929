"""Gradients added up in float32, in parts."""

import pytest
import torch

from autoalign.losses import summing
from autoalign.losses.summing import added, parts


@pytest.mark.parametrize("shape", [(), (7,), (5, 4)])
@pytest.mark.parametrize("numel", [1, 6, 1000])
def test_what_bfloat16_would_lose_is_kept(monkeypatch, shape, numel):
    """2^-9 beside 1 is below half of bfloat16's last bit, so that 512 of them would add up to nothing."""
    monkeypatch.setattr(summing, "_NUMEL", numel)
    total = added(None, torch.ones(shape, dtype=torch.bfloat16))
    for _ in range(512):
        total = added(total, torch.full(shape, 2.0**-9, dtype=torch.bfloat16))
    assert torch.equal(total, torch.full(shape, 2.0))


def test_a_transposed_sum_is_one_too(monkeypatch):
    monkeypatch.setattr(summing, "_NUMEL", 3)
    total = torch.arange(6.0).view(2, 3).t()
    assert added(total, torch.ones(3, 2, dtype=torch.bfloat16)) is total
    assert torch.equal(total, torch.tensor([[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]))


def test_the_only_gradient_stays_as_it_is():
    gradient = torch.ones(3, dtype=torch.bfloat16)
    assert added(None, gradient, is_only=True) is gradient


def test_parts_are_views_of_the_same_rows():
    left, right = torch.arange(10.0).view(5, 2), torch.arange(5)
    found = list(parts([left, right], 4))
    assert [[len(part) for part in each] for each in found] == [[2, 2], [2, 2], [1, 1]]
    assert found[1][0].data_ptr() == left[2].data_ptr()
