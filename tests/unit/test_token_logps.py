"""Chunked log-probs of given tokens against torch's own."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from autoalign.losses.token_logps import (  # noqa: E402
    linear_log_collisions,
    linear_token_logps,
    log_collisions,
    token_logps,
)


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_chunked_equals_whole(chunk: int):
    torch.manual_seed(0)
    hidden = torch.randn(11, 6, requires_grad=True)
    weight = torch.randn(9, 6, requires_grad=True)
    targets, upstream = torch.randint(0, 9, (11,)), torch.randn(11)
    expected = torch.log_softmax(hidden @ weight.T, -1)[torch.arange(11), targets]
    wanted = torch.autograd.grad(expected, (hidden, weight), upstream)
    found = linear_token_logps(hidden, weight, targets, chunk)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, (hidden, weight), upstream), wanted)


def test_uniform_logits_give_one_over_the_vocabulary():
    found = token_logps(torch.zeros(2, 4), torch.tensor([1, 3]))
    torch.testing.assert_close(found.exp(), torch.full((2,), 0.25))


def test_a_frozen_head_gets_no_gradient():
    hidden, weight = torch.randn(3, 2, requires_grad=True), torch.randn(5, 2)
    linear_token_logps(hidden, weight, torch.tensor([0, 1, 2])).sum().backward()
    assert hidden.grad is not None
    assert weight.grad is None


def test_two_draws_are_the_same_token_so_often():
    """Half and half: one in two; uniform over four: one in four; certain: always."""
    logits = torch.tensor([[0.0, 0.0, -1e9, -1e9], [0.0, 0.0, 0.0, 0.0], [0.0, -1e9, -1e9, -1e9]])
    torch.testing.assert_close(log_collisions(logits).exp(), torch.tensor([0.5, 0.25, 1.0]))


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_collisions_in_chunks_are_those_of_the_whole(chunk: int):
    torch.manual_seed(0)
    hidden, weight = torch.randn(11, 6, requires_grad=True), torch.randn(9, 6, requires_grad=True)
    found = linear_log_collisions(hidden, weight, chunk)
    torch.testing.assert_close(found, log_collisions(hidden @ weight.T).detach())
    assert not found.requires_grad
