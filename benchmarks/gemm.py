"""How fast this machine multiplies matrices of the model's shapes, and what a step needs of that."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.plan import Settings

_ROUNDS = 5


class Linear(NamedTuple):
    """`copies` layers that map `inputs` numbers a token to `outputs`."""

    outputs: int
    inputs: int
    copies: int

    @property
    def weights(self) -> int:
        """Of all of them."""
        return self.outputs * self.inputs * self.copies


def layers(model: str) -> list[Linear]:
    """The linear layers of a Llama-like model, the head apart."""
    config = _config(model)
    width, inner, count = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or width // heads
    keys = head_dim * config["num_key_value_heads"]
    return [
        Linear(head_dim * heads, width, count),
        Linear(keys, width, 2 * count),
        Linear(width, head_dim * heads, count),
        Linear(inner, width, 2 * count),
        Linear(width, inner, count),
    ]


def head(model: str) -> Linear:
    """The language-model head."""
    config = _config(model)
    return Linear(config["vocab_size"], config["hidden_size"], 1)


def needed_flops(model: str, tokens: int, supervised: int) -> int:
    """Forward and backward of the linear layers on `tokens`, and of the head on `supervised` tokens.

    2 operations a weight and token forward, 4 backward; attention's own products are not counted.
    """
    body = sum(layer.weights for layer in layers(model))
    return 6 * (body * tokens + head(model).weights * supervised)


def measure(settings: Settings) -> dict[str, Any]:
    """The limit in FLOP/s: the best time of every product of a step, in bfloat16, one after the other."""
    from benchmarks import workload

    torch.set_num_threads(settings.threads)
    steps = workload.read(settings, "sft")
    tokens = sum(workload.amounts(steps, "sft")[1:])
    scored = workload.supervised(steps)
    seconds = sum(_seconds(layer, tokens // settings.steps) for layer in layers(settings.model))
    seconds += _seconds(head(settings.model), max(1, scored // settings.steps))
    flops = needed_flops(settings.model, tokens, scored) / settings.steps
    return {"flops_per_second": flops / seconds, "needed_flops": flops * settings.steps}


def _seconds(layer: Linear, tokens: int) -> float:
    """Forward, the gradient of the input, and the gradient of the weight."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    inputs = torch.randn(tokens, layer.inputs, dtype=torch.bfloat16, device=device)
    grads = torch.randn(tokens, layer.outputs, dtype=torch.bfloat16, device=device)
    weight = torch.randn(layer.outputs, layer.inputs, dtype=torch.bfloat16, device=device)
    products = (lambda: inputs @ weight.T, lambda: grads @ weight, lambda: grads.T @ inputs)
    return layer.copies * sum(map(_best, products))


def _best(product: Callable[[], torch.Tensor]) -> float:
    times = []
    for _ in range(_ROUNDS + 1):
        began = time.perf_counter()
        product()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return min(times[1:])


def _config(model: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))
    return config
