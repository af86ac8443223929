"""Lean norms and gates give what transformers' own give, and keep less."""

from __future__ import annotations

import copy
import weakref
from contextlib import nullcontext

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from torch.nn import functional as F  # noqa: E402

from autoalign.training.lean_modules import (  # noqa: E402
    make_again_instead_of_keeping,
    make_lean,
    rms_norm,
    swiglu,
)


def _model():
    from transformers import LlamaConfig, LlamaModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaModel(LlamaConfig(vocab_size=32, **sizes))


def _loss_and_gradients(model: torch.nn.Module) -> tuple[torch.Tensor, list[torch.Tensor]]:
    ids = torch.arange(10)[None] % 7
    with make_again_instead_of_keeping():
        hidden = model(input_ids=ids, use_cache=False).last_hidden_state
    loss = (hidden * torch.linspace(-1, 1, hidden.numel()).view_as(hidden)).sum()
    return loss.detach(), list(torch.autograd.grad(loss, list(model.parameters())))


def test_a_lean_model_gives_the_same_loss_and_gradients():
    plain = _model()
    lean = copy.deepcopy(plain)
    assert make_lean(lean) == 2 * 4 + 1
    loss, gradients = _loss_and_gradients(plain)
    lean_loss, lean_gradients = _loss_and_gradients(lean)
    torch.testing.assert_close(lean_loss, loss, atol=1e-5, rtol=0)
    for ours, theirs in zip(lean_gradients, gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_a_lean_model_in_bfloat16_is_as_near_to_float32_as_transformers_own():
    exact = _model()
    plain = copy.deepcopy(exact).bfloat16()
    lean = copy.deepcopy(plain)
    make_lean(lean)
    _, wanted = _loss_and_gradients(exact)
    (_, ours), (_, theirs) = _loss_and_gradients(lean), _loss_and_gradients(plain)
    for mine, other, right in zip(ours, theirs, wanted, strict=True):
        off = (other.float() - right).norm()
        assert (mine.float() - right).norm() <= 1.5 * off + 1e-3 * right.norm()


def test_another_architecture_is_left_as_it_is():
    assert make_lean(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LayerNorm(2))) == 0


def test_gradients_are_those_of_finite_differences():
    torch.manual_seed(0)
    first, second = (torch.randn(3, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    torch.testing.assert_close(swiglu(first, second), F.silu(first) * second)
    assert torch.autograd.gradcheck(swiglu, (first, second))
    assert torch.autograd.gradcheck(lambda hidden, gain: rms_norm(hidden, gain, 1e-5), (first, second[0]))


@pytest.mark.parametrize("again", [True, False])
def test_what_a_matrix_product_would_keep_is_made_again(again: bool):
    gate, up = (torch.randn(4, 6, requires_grad=True) for _ in range(2))
    weight = torch.randn(6, 5, requires_grad=True)
    with make_again_instead_of_keeping() if again else nullcontext():
        product = swiglu(gate, up)
        down = product @ weight
    is_kept = weakref.ref(product)
    expected = product.detach().clone()
    del product
    assert (is_kept() is None) is again
    (grad,) = torch.autograd.grad(down.sum(), [weight])
    torch.testing.assert_close(grad, expected.T @ torch.ones(4, 5))


def test_a_part_of_what_was_noted_is_kept_as_it_is():
    gate, up = (torch.randn(4, 6, requires_grad=True) for _ in range(2))
    weight = torch.randn(6, 5, requires_grad=True)
    with make_again_instead_of_keeping():
        first_rows = swiglu(gate, up)[:2] @ weight
    (grad,) = torch.autograd.grad(first_rows.sum(), [weight])
    torch.testing.assert_close(grad, (F.silu(gate) * up)[:2].T @ torch.ones(2, 5))
