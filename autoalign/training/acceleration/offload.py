"""Memory moved from the GPU to the host: activations here, the rest by DeepSpeed (config/deepspeed.py).

Every tensor that autograd keeps passes through two hooks (torch.autograd.graph); a large one is
copied to pinned memory beside the computation, and back when its gradient is due. With gradient
checkpointing that is each layer's input, as in ALST (arXiv:2506.13996, section 3.3). Weights
are kept by autograd too, and stay where they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn

from autoalign.config.train import TrainConfig
from autoalign.errors import ConfigError

_LEAST_BYTES = 1 << 20
"""Below it a copy costs more than the memory is worth."""


def require_gpu(config: TrainConfig, device: torch.device) -> None:
    """Refuse to offload from a CPU.

    Raises:
        ConfigError: something is to be offloaded, and `device` is not a GPU.
    """
    wanted = {
        "offload_optimizer": config.offload_optimizer != "none",
        "offload_param": config.offload_param != "none",
        "activation_offload": config.activation_offload,
    }
    names = [f"'{name}'" for name, is_wanted in wanted.items() if is_wanted]
    if names and device.type != "cuda":
        raise ConfigError(
            f"{' and '.join(names)}: offloading frees a GPU's memory, and this job runs on the CPU, where "
            "there is nothing to offload; leave it out"
        )


def kept_activations(
    config: TrainConfig, module: nn.Module, device: torch.device
) -> Callable[[], AbstractContextManager[None]]:
    """The context to run a forward pass in: with the hooks, or without."""
    return ActivationOffload(module, device).during_forward if config.activation_offload else nullcontext


class _Copy(NamedTuple):
    """A tensor in the host's memory."""

    host: Tensor
    arrived: torch.cuda.Event
    device: torch.device


class ActivationOffload:
    """The hooks for one module.

    Args:
        module: whose parameters stay on the device.
        device: a GPU.
    """

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self._module = module
        self._aside = torch.cuda.Stream(device)

    @contextmanager
    def during_forward(self) -> Iterator[None]:
        """Hooks for what is computed inside."""
        weights = {weight.untyped_storage().data_ptr() for weight in self._module.parameters()}

        def pack(tensor: Tensor) -> Tensor | _Copy:
            return self._to_host(tensor) if _is_worth_it(tensor, weights) else tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, _to_device):
            yield

    def _to_host(self, tensor: Tensor) -> _Copy:
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        self._aside.wait_stream(torch.cuda.current_stream(tensor.device))
        with torch.cuda.stream(self._aside):
            host.copy_(tensor, non_blocking=True)
            arrived = self._aside.record_event()
        # Its memory is not for others before the copy is done.
        tensor.record_stream(self._aside)
        return _Copy(host, arrived, tensor.device)


def _is_worth_it(tensor: Tensor, weights: set[int]) -> bool:
    is_large = tensor.device.type == "cuda" and tensor.nbytes >= _LEAST_BYTES
    return is_large and tensor.untyped_storage().data_ptr() not in weights


def _to_device(kept: Tensor | _Copy) -> Tensor:
    if isinstance(kept, Tensor):
        return kept
    torch.cuda.current_stream(kept.device).wait_event(kept.arrived)
    return kept.host.to(kept.device, non_blocking=True)
