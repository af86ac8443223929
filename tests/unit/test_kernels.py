"""The C kernels give what float64 gives, to bfloat16's rounding; without a compiler PyTorch does the same."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402

from autoalign.kernels import library, ops  # noqa: E402
from autoalign.losses.cross_entropy import linear_cross_entropy_sum  # noqa: E402
from autoalign.losses.token_logps import linear_token_logps  # noqa: E402

pytestmark = pytest.mark.skipif(library.load() is None, reason="there is no C compiler")

HALF_A_UNIT = 2**-8
"""bfloat16 keeps 8 bits: a rounded value is off by half of its last one at most, relatively."""


def _random(*shape: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale
    return values.bfloat16()


def _close(found: torch.Tensor, exact: torch.Tensor, roundings: int = 1, floor: float = 1e-6) -> None:
    limit = exact.abs() * HALF_A_UNIT * roundings + floor
    assert bool(((found.double() - exact).abs() <= limit).all()), (found.double() - exact).abs().max()


@pytest.mark.parametrize("shape", [(1, 3, 5), (2, 33, 576), (70, 64)])
def test_rms_norm(shape: tuple[int, ...]):
    hidden, weight = _random(*shape), _random(shape[-1], seed=1)
    normed, inverse = ops.rms_norm(hidden, weight, 1e-5)
    exact = hidden.double()
    exact = exact / (exact.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight.double()
    _close(normed, exact, roundings=2)
    again, _ = ops.rms_norm(hidden, weight, 0.0, inverse)
    assert torch.equal(again, normed)


@pytest.mark.parametrize("rows", [1, 7, 100])
def test_rms_norm_backward(rows: int):
    hidden, weight, grad = _random(rows, 24), _random(24, seed=1), _random(rows, 24, seed=2)
    x, w = hidden.double().requires_grad_(), weight.double().requires_grad_()
    (x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w).backward(grad.double())
    _, inverse = ops.rms_norm(hidden, weight, 1e-5)
    grad_hidden, grad_weight = ops.rms_norm_backward(grad, hidden, weight, inverse)
    _close(grad_hidden, x.grad, floor=1e-5)
    _close(grad_weight, w.grad, floor=1e-5)


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_swiglu_and_its_gradients(scale: float):
    gate, up, grad = (_random(5, 77, seed=seed, scale=scale) for seed in range(3))
    x, y = gate.double().requires_grad_(), up.double().requires_grad_()
    exact = F.silu(x) * y
    exact.backward(grad.double())
    _close(ops.swiglu(gate, up), exact.detach(), roundings=2)
    grad_gate, grad_up = ops.swiglu_backward(grad, gate, up)
    _close(grad_gate, x.grad, floor=1e-4 * scale)
    _close(grad_up, y.grad, floor=1e-5)


@pytest.mark.parametrize("backwards", [False, True])
def test_a_rotation_turns_each_pair_of_numbers_by_its_angle(backwards: bool):
    states = _random(6, 3, 8).transpose(0, 1)  # heads first, as attention has them
    angle = torch.randn(6, 4, generator=torch.Generator().manual_seed(3))
    cosine, sine = (torch.cat((f(angle), f(angle)), 1).bfloat16() for f in (torch.cos, torch.sin))
    first, second = states.double().chunk(2, -1)
    c, s = cosine.double()[:, :4], sine.double()[:, :4] * (-1 if backwards else 1)
    exact = torch.cat((first * c - second * s, second * c + first * s), -1)
    out = torch.empty(6, 3, 8, dtype=torch.bfloat16).transpose(0, 1)
    _close(ops.rotate(states, cosine, sine, out, backwards), exact)


def test_softmax_rows_are_log_probs_and_their_gradients():
    logits, targets = _random(9, 1000, scale=8.0), torch.arange(9) * 111
    factors = torch.linspace(-1, 2, 9)
    exact = logits.double().requires_grad_()
    logps = torch.log_softmax(exact, -1).gather(1, targets[:, None]).squeeze(1)
    (logps * factors.double()).sum().backward()
    torch.testing.assert_close(
        ops.target_logps(logits, targets).double(), logps.detach(), atol=1e-5, rtol=1e-5
    )
    turned = logits.clone()
    assert torch.equal(ops.turn_to_gradient(turned, targets, factors), ops.target_logps(logits, targets))
    _close(turned, exact.grad, floor=1e-6)


def test_a_target_outside_of_the_vocabulary_is_refused():
    with pytest.raises(IndexError, match="not among the 10 tokens"):
        ops.target_logps(_random(2, 10), torch.tensor([3, 10]))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_stays_so(value: float):
    gate = torch.tensor([value, 1.0], dtype=torch.bfloat16)
    assert torch.equal(ops.swiglu(gate, gate).isfinite(), (F.silu(gate) * gate).isfinite())
    logits = torch.tensor([[value, 1.0, 2.0]], dtype=torch.bfloat16)
    exact = torch.log_softmax(logits.float(), -1)[:, 1]
    assert torch.equal(ops.target_logps(logits, torch.tensor([1])).isfinite(), exact.isfinite())
    normed, _ = ops.rms_norm(gate[None], torch.ones(2, dtype=torch.bfloat16), 1e-5)
    assert not bool(normed.isfinite().all())


@pytest.mark.parametrize("head", [linear_cross_entropy_sum, linear_token_logps])
def test_a_head_gives_the_same_with_and_without_kernels(head, monkeypatch: pytest.MonkeyPatch):
    targets = torch.arange(12) * 5 % 64

    def run() -> list[torch.Tensor]:
        hidden, weight = _random(12, 16).requires_grad_(), _random(64, 16, seed=1).requires_grad_()
        loss = head(hidden, weight, targets, 5).sum()
        return [loss.detach(), *torch.autograd.grad(loss, [hidden, weight])]

    ours = run()
    monkeypatch.setattr(ops, "can", lambda *tensors: False)
    for found, expected in zip(ours, run(), strict=True):
        torch.testing.assert_close(found, expected, atol=2e-2, rtol=2e-2)


def test_gradients_do_not_depend_on_the_number_of_threads():
    hidden, weight, grad = _random(50, 64), _random(64, seed=1), _random(50, 64, seed=2)
    _, inverse = ops.rms_norm(hidden, weight, 1e-5)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(ops.rms_norm_backward(grad, hidden, weight, inverse))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_without_a_compiler_or_when_switched_off_there_is_no_library(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(library.SWITCH, "0")
    assert library.load.__wrapped__() is None
    monkeypatch.delenv(library.SWITCH)
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.setenv("PATH", "")
    assert library.load.__wrapped__() is None
