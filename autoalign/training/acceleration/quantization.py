"""QLoRA (arXiv:2305.14314): a frozen base in 4 or 8 bits under a LoRA adapter.

The linear layers but the output layer are quantised by bitsandbytes (4 bits: NF4, with the scales
quantised once more; 8 bits: LLM.int8, arXiv:2208.07339); embeddings stay in the job's type, norms
multiply in float32. At the end the adapter is merged into the base as it was, unquantised.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from autoalign.config.acceleration import is_quantized
from autoalign.config.train import TrainConfig
from autoalign.errors import ConfigError, MissingDependency

_BLOCK = 64
"""Numbers that share an NF4 scale."""


def options(config: TrainConfig) -> dict[str, Any]:
    """What `from_pretrained` takes beside the rest; nothing where no quantisation is asked for.

    Raises:
        MissingDependency: bitsandbytes is not installed.
    """
    if not is_quantized(config):
        return {}
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        raise MissingDependency(
            "--load_in_4bit and --load_in_8bit need bitsandbytes: pip install bitsandbytes"
        ) from None
    from transformers import BitsAndBytesConfig

    if config.load_in_8bit:
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if config.bf16 else torch.float32,
    )
    return {"quantization_config": quantization}


def prepare(model: Any, config: TrainConfig) -> None:
    """Freeze a quantised model's own weights, and let its norms multiply in float32.

    Raises:
        ConfigError: a layer that bitsandbytes would hold wrongly on this machine.
    """
    if not is_quantized(config):
        return
    model.requires_grad_(False)
    for name, module in model.named_modules():
        _require_whole_blocks(name, module, config)
        if type(module).__name__.endswith("Norm") and hasattr(module, "weight"):
            module.float()
            module.register_forward_hook(_hand_on_in_the_inputs_type)


def _require_whole_blocks(name: str, module: nn.Module, config: TrainConfig) -> None:
    """bitsandbytes' CPU kernel takes wrong scales where a block of 64 numbers goes on in the next row."""
    width = getattr(module, "in_features", 0)
    is_cut = config.load_in_4bit and type(module).__name__ == "Linear4bit" and width % _BLOCK > 0
    if is_cut and next(module.parameters()).device.type == "cpu":
        raise ConfigError(
            f"'load_in_4bit': {name} takes {width} numbers, and on a CPU bitsandbytes holds only "
            f"multiples of {_BLOCK} rightly; use load_in_8bit, or a GPU"
        )


def _hand_on_in_the_inputs_type(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """Attention and the residual stream stay in bfloat16."""
    return output.to(args[0].dtype)
