"""Attention inside rows, against softmax written out: shared beginnings, blocks of queries, windows."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from autoalign.training.attention import Row, attend_rows, rows_of  # noqa: E402
from autoalign.training.blocked_attention import attend_blocked  # noqa: E402

HEADS, KV_HEADS, WIDTH = 6, 2, 8
LENGTHS = (350, 200, 130, 1, 30)
SHARED = (0, 300, 0, 129, 0)


def _tensors(dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    torch.manual_seed(0)
    tokens = sum(LENGTHS)
    return [
        torch.randn(1, heads, tokens, WIDTH, dtype=dtype, requires_grad=True)
        for heads in (HEADS, KV_HEADS, KV_HEADS)
    ]


def _written_out(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """softmax(Q K^T / sqrt(d)) V, one row at a time: the beginning it shares, then up to each query."""
    group = HEADS // KV_HEADS
    outputs = []
    start = before = 0
    for length, shared in zip(LENGTHS, SHARED, strict=True):
        seen = torch.tensor([*range(before, before + shared), *range(start, start + length)])
        keys, values = (part[0, :, seen].repeat_interleave(group, 0) for part in (key, value))
        scores = query[0, :, start : start + length] @ keys.transpose(1, 2) / WIDTH**0.5
        later = torch.ones(length, shared + length, dtype=torch.bool).triu(shared + 1)
        outputs.append((scores.masked_fill(later, -torch.inf).softmax(-1) @ values).transpose(0, 1))
        before, start = start, start + length
    return torch.cat(outputs)[None]


def _gradients(output: torch.Tensor, inputs: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(1)
    return torch.autograd.grad(output, inputs, torch.randn_like(output))


def test_rows_begin_where_the_last_one_ended():
    assert rows_of([3, 2, 4], [0, 1, 0]) == [Row(0, 3, 0, 0), Row(3, 5, 0, 1), Row(5, 9, 3, 0)]


@pytest.mark.parametrize("kernel", ["sdpa", "blocked"])
def test_attention_is_the_softmax_written_out(kernel: str):
    inputs = _tensors()
    if kernel == "sdpa":
        output, _ = attend_rows(
            torch.nn.Identity(), *inputs, None, row_lengths=LENGTHS, shared_lengths=SHARED
        )
    else:
        output = attend_blocked(*inputs, rows_of(LENGTHS, SHARED), WIDTH**-0.5)
    expected = _written_out(*inputs)
    torch.testing.assert_close(output, expected, atol=1e-10, rtol=0)
    for ours, written in zip(_gradients(output, inputs), _gradients(expected, inputs), strict=True):
        torch.testing.assert_close(ours, written, atol=1e-5, rtol=0)


def test_bfloat16_takes_blocks_and_stays_near():
    inputs = _tensors(torch.bfloat16)
    output, _ = attend_rows(torch.nn.Identity(), *inputs, None, row_lengths=LENGTHS, shared_lengths=SHARED)
    assert type(output.grad_fn).__name__ == "_BlockedAttentionBackward"
    expected = _written_out(*[tensor.detach().double() for tensor in inputs])
    torch.testing.assert_close(output.double(), expected, atol=0.02, rtol=0)


def test_a_row_does_not_see_its_neighbours():
    inputs = _tensors()
    changed = [tensor.detach().clone() for tensor in inputs]
    for tensor in changed:
        tensor[:, :, : LENGTHS[0] + LENGTHS[1]] = 7.0
    outputs = [
        attend_rows(torch.nn.Identity(), *tensors, None, row_lengths=LENGTHS, shared_lengths=SHARED)[0]
        for tensors in (inputs, changed)
    ]
    first = LENGTHS[0] + LENGTHS[1]
    assert torch.equal(outputs[0][:, first:], outputs[1][:, first:])


def test_a_sliding_window_hides_what_lies_further_back():
    query, key, value = _tensors()
    moved = value.detach().clone()
    moved[:, :, 0] += 5.0
    outputs = [
        attend_rows(torch.nn.Identity(), query, key, values, None, row_lengths=LENGTHS, sliding_window=4)[0]
        for values in (value, moved)
    ]
    assert not torch.equal(outputs[0][:, 3], outputs[1][:, 3])
    assert torch.equal(outputs[0][:, 4:], outputs[1][:, 4:])
