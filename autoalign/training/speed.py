"""How many tokens a second a job would train on, from the arithmetic that a token takes.

A weight of a linear layer costs 2 operations a token on the way forward and 4 on the way back: the
gradient of what it was given, and its own (Kaplan et al., arXiv:2001.08361). Frozen weights have
no gradient of their own, checkpointed layers run forward twice, and the head runs where a token is
supervised. Attention's own products are left out: over rows of a few thousand tokens they are the
smaller part. Of what a device can multiply a training step reaches a share (model FLOPs utilisation);
the shares here are this project's measured one on a CPU (docs/benchmarks.md) and a usual one on a GPU.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from autoalign.config.dpo import DPOConfig
from autoalign.config.train import TrainConfig
from autoalign.training.footprint import Architecture

CPU_SHARE, GPU_SHARE = 0.6, 0.4
_PROBE_TOKENS, _PROBE_SECONDS = 1024, 0.3


class Speed(NamedTuple):
    """Tokens a second over all workers; None when nothing says. `source`: where the figure is from."""

    tokens_per_second: float | None
    source: str


def token_flops(sizes: Architecture, config: TrainConfig, supervised_share: float) -> float:
    """Operations that a training token takes, the reference's passes included where they are made.

    Args:
        supervised_share: supervised tokens of all tokens, 0 to 1.
    """
    body = sizes.layers * sum(inputs * _outputs(sizes, name) for name, inputs in sizes.linear_inputs.items())
    head = sizes.vocab * sizes.hidden * supervised_share
    backward = 2 if config.use_lora else 4
    again = 2 / config.gradient_checkpointing_every if config.gradient_checkpointing else 0
    flops = body * (2 + backward + again) + head * (2 + backward)
    if isinstance(config, DPOConfig):
        # Reference log-probs: each step, or once for all epochs.
        passes = 1.0 if not config.precompute_ref_log_probs else 1 / max(1.0, config.num_train_epochs)
        flops += 2 * passes * (body + head)
    return flops


def on_this_cpu(sizes: Architecture, config: TrainConfig, supervised_share: float) -> Speed:
    """The workers share this machine's cores; what they can multiply is measured, for a moment."""
    rate = _cpu_rate(sizes, config.bf16)
    speed = CPU_SHARE * rate / token_flops(sizes, config, supervised_share)
    return Speed(
        speed,
        f"estimated: {CPU_SHARE:.0%} of the {rate / 1e9:.0f} GFLOP/s at which this CPU multiplies",
    )


def on_gpus(
    sizes: Architecture, config: TrainConfig, supervised_share: float, tflops: float, workers: int
) -> Speed:
    """On GPUs that reach `tflops` (10^12 operations a second, dense, in the job's number type) at best."""
    speed = GPU_SHARE * tflops * 1e12 * workers / token_flops(sizes, config, supervised_share)
    return Speed(speed, f"estimated: {GPU_SHARE:.0%} of {workers} x {tflops:g} TFLOP/s")


def _outputs(sizes: Architecture, name: str) -> int:
    keys = sizes.kv_heads * sizes.head_dim
    widths = {"q_proj": sizes.heads * sizes.head_dim, "k_proj": keys, "v_proj": keys}
    widths |= {"gate_proj": sizes.intermediate, "up_proj": sizes.intermediate}
    return widths.get(name, sizes.hidden)


def _cpu_rate(sizes: Architecture, bf16: bool) -> float:
    """Operations a second in a product of the MLP's shape."""
    import torch

    kind = torch.bfloat16 if bf16 else torch.float32
    inputs = torch.ones(_PROBE_TOKENS, sizes.hidden, dtype=kind)
    weight = torch.ones(sizes.intermediate, sizes.hidden, dtype=kind)
    best, began = float("inf"), time.perf_counter()
    inputs @ weight.T
    while time.perf_counter() - began < _PROBE_SECONDS or best == float("inf"):
        start = time.perf_counter()
        inputs @ weight.T
        best = min(best, time.perf_counter() - start)
    return 2 * _PROBE_TOKENS * sizes.hidden * sizes.intermediate / best
