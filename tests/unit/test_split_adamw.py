"""Masters in two halves: nothing is lost, and the update is PyTorch's AdamW on float32 weights."""

import struct
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from autoalign.training.engines import split_adamw
from autoalign.training.engines.split_adamw import SplitAdamW, joined, split


def halves(master: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    weight, rest = master.to(torch.bfloat16), torch.empty(master.shape, dtype=torch.int16)
    split(master, weight, rest)
    return weight, rest


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=50))
def test_a_master_comes_back_bit_by_bit_and_its_weight_is_the_nearest(numbers):
    master = torch.tensor(numbers, dtype=torch.float32)
    weight, rest = halves(master)
    assert torch.equal(joined(weight, rest).view(torch.int32), master.view(torch.int32))
    is_tie = (master.view(torch.int32) & 0xFFFF) == 0x8000
    assert torch.equal(weight[~is_tie], master.to(torch.bfloat16)[~is_tie])


@pytest.mark.parametrize(
    ("bits", "upper", "rest"),
    [
        (0x3F800000, 0x3F80, 0),  # 1.0
        (0x3F807FFF, 0x3F80, 0x7FFF),  # just under the middle of two bfloat16
        (0x3F808000, 0x3F81, -0x8000),  # the middle: away from zero
        (0xBF808000, 0xBF81, -0x8000),
        (0x3F80FFFF, 0x3F81, -1),
        (0x00000001, 0x0000, 1),  # the smallest there is
        (0x80000000, 0x8000, 0),  # -0.0
        (0x7F800000, 0x7F80, 0),  # infinity
        (0x7F7FFFFF, 0x7F80, -1),  # the largest: its weight is infinite, itself it is not
    ],
)
def test_the_halves_by_hand(bits, upper, rest):
    (number,) = struct.unpack("f", struct.pack("I", bits))
    weight, left = halves(torch.tensor([number]))
    assert int(weight.view(torch.int16)) & 0xFFFF == upper
    assert int(left) == rest


def test_many_small_steps_add_up_as_in_float32():
    """Each step is hundredths of what the weight's last bit is worth: bfloat16 alone would stand still."""
    start, lr, steps = 1.0, 1e-5, 1000
    parameter, peer = nn.Parameter(torch.full((4, 3), start, dtype=torch.bfloat16)), torch.full((4, 3), start)
    peer = nn.Parameter(peer)
    ours = SplitAdamW([{"params": [parameter], "weight_decay": 0.1}], (0.9, 0.999), 1e-8)
    theirs = torch.optim.AdamW([peer], lr=lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1)
    for step in range(steps):
        gradient = torch.randn(4, 3, generator=torch.Generator().manual_seed(step)) + 1
        ours.update({parameter: gradient.to(torch.bfloat16)}, lr, 0.5)
        peer.grad = gradient.to(torch.bfloat16).float() * 0.5
        theirs.step()
    state = dict(ours.state(parameter))
    torch.testing.assert_close(state["master"], peer.detach(), rtol=1e-6, atol=0)
    assert torch.all(state["master"] < start - lr * steps / 3)
    for name in ("exp_avg", "exp_avg_sq"):
        torch.testing.assert_close(state[name], theirs.state[peer][name], rtol=1e-5, atol=0)


@pytest.mark.parametrize("shape", [(), (5,), (7, 3), (2, 3, 4)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_loaded_state_goes_on_to_the_same_bits(dtype, shape):
    def made() -> tuple[nn.Parameter, SplitAdamW]:
        parameter = nn.Parameter(torch.ones(shape, dtype=dtype))
        return parameter, SplitAdamW([{"params": [parameter], "weight_decay": 0.0}], (0.9, 0.95), 1e-8)

    gradients = [torch.full(shape, value, dtype=dtype) for value in (0.3, -0.7)]
    (mine, ours), (its, again) = made(), made()
    ours.update({mine: gradients[0].clone()}, 1e-3, 1.0)
    again.load(its, {name: value.clone() for name, value in ours.state(mine)}, steps=1)
    for parameter, optimizer in ((mine, ours), (its, again)):
        optimizer.update({parameter: gradients[1].clone()}, 1e-3, 1.0)
    held = dict(again.state(its))
    assert torch.equal(mine, its)
    assert all(torch.equal(value, held[name]) for name, value in ours.state(mine))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_several_weights_take_pytorchs_steps(monkeypatch, dtype):
    """Of a matrix in parts, its transpose, and a vector without decay; the third has a gradient once."""
    monkeypatch.setattr(split_adamw, "_CPU_NUMEL", 100)
    numbers = torch.randn(30, 20, generator=torch.Generator().manual_seed(0)).to(dtype)
    mine = [nn.Parameter(number) for number in (numbers.clone(), numbers.clone().t(), numbers[0].clone())]
    peers = [nn.Parameter(parameter.detach().float()) for parameter in mine]
    ours = SplitAdamW(_groups(mine), (0.9, 0.999), 1e-8)
    theirs = torch.optim.AdamW(_groups(peers), lr=1e-2, betas=(0.9, 0.999), eps=1e-8)
    for step in range(3):
        gradients = {}
        for place, (parameter, peer) in enumerate(zip(mine, peers, strict=True)):
            peer.grad = None
            if place < 2 or step == 1:
                gradients[parameter] = torch.randn_like(parameter)
                peer.grad = gradients[parameter].float() * 0.5
        ours.update(gradients, 1e-2, 0.5)
        theirs.step()
        assert not gradients
    for parameter, peer in zip(mine, peers, strict=True):
        torch.testing.assert_close(dict(ours.state(parameter))["master"], peer.detach(), rtol=1e-5, atol=1e-7)


def _groups(parameters: list[nn.Parameter]) -> list[dict[str, Any]]:
    return [
        {"params": parameters[:2], "weight_decay": 0.1},
        {"params": parameters[2:], "weight_decay": 0.0},
    ]


def test_weights_of_another_type_are_refused():
    parameter = nn.Parameter(torch.ones(2, dtype=torch.float16))
    with pytest.raises(TypeError, match="float16"):
        SplitAdamW([{"params": [parameter], "weight_decay": 0.0}], (0.9, 0.999), 1e-8)
