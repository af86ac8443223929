"""The chunked head loss against torch's own cross-entropy."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from autoalign.losses.cross_entropy import cross_entropy_sum, linear_cross_entropy_sum  # noqa: E402


def _inputs(positions: int = 11, dtype: torch.dtype = torch.float32):
    torch.manual_seed(0)
    hidden = torch.randn(positions, 6, dtype=dtype, requires_grad=True)
    weight = torch.randn(9, 6, dtype=dtype, requires_grad=True)
    return hidden, weight, torch.randint(0, 9, (positions,))


def test_uniform_logits_cost_log_vocabulary():
    assert cross_entropy_sum(torch.zeros(3, 4), torch.tensor([0, 1, 2])).item() == pytest.approx(
        3 * math.log(4)
    )


@pytest.mark.parametrize("chunk", [1, 4, 11, 100])
def test_chunked_equals_whole(chunk: int):
    hidden, weight, targets = _inputs()
    expected = torch.nn.functional.cross_entropy(hidden @ weight.T, targets, reduction="sum")
    wanted = torch.autograd.grad(expected, (hidden, weight))
    loss = linear_cross_entropy_sum(hidden, weight, targets, chunk)
    found = torch.autograd.grad(loss * 1.0, (hidden, weight))
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(found, wanted)


def test_the_gradient_is_scaled_by_what_comes_after():
    hidden, weight, targets = _inputs()
    once = torch.autograd.grad(linear_cross_entropy_sum(hidden, weight, targets), hidden)[0]
    thrice = torch.autograd.grad(3 * linear_cross_entropy_sum(hidden, weight, targets), hidden)[0]
    torch.testing.assert_close(thrice, 3 * once)


def test_a_frozen_head_gets_no_gradient():
    hidden, weight, targets = _inputs()
    linear_cross_entropy_sum(hidden, weight.detach(), targets).backward()
    assert hidden.grad is not None
    assert weight.grad is None


def test_nothing_supervised_costs_nothing():
    hidden, weight, targets = _inputs(positions=0)
    loss = linear_cross_entropy_sum(hidden, weight, targets)
    loss.backward()
    assert loss.item() == 0


def test_bfloat16_stays_near_float32():
    hidden, weight, targets = _inputs(positions=64)
    expected = linear_cross_entropy_sum(hidden, weight, targets)
    found = linear_cross_entropy_sum(hidden.bfloat16(), weight.bfloat16(), targets, chunk=16)
    assert found.item() == pytest.approx(expected.item(), rel=0.02)
