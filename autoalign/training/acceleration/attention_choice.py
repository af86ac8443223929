"""Which attention function a job's model gets: the kernel, and what is put around it."""

from __future__ import annotations

from typing import Any

from autoalign.config.train import TrainConfig
from autoalign.errors import ConfigError, MissingDependency
from autoalign.training import attention
from autoalign.training.acceleration import flex, regions, ulysses, varlen
from autoalign.training.padding import Padded

_KERNELS = {
    attention.NAME: attention.attend_rows,
    flex.NAME: flex.attend_flex,
    varlen.NAME: varlen.attend_varlen,
}


def attention_name(config: TrainConfig, padded: Padded | None) -> str:
    """The `attn_implementation` for transformers, registered there if it is ours.

    Args:
        padded: why the model can't have our kernels, which need rows laid end to end; None: it can.

    Raises:
        ConfigError: choices that the model or the number type rules out.
        MissingDependency: flash_attention_2 is asked for and not installed.
    """
    name = kernel_name(config, padded)
    if name not in _KERNELS:
        if config.sequence_parallel_size > 1 and padded is not None:
            raise ConfigError(f"'sequence_parallel_size' does not go with a model that {padded.reason}")
        return name
    function = _KERNELS[name]
    if config.sequence_parallel_size > 1:
        name, function = f"{name}_ulysses", ulysses.around(function)
    if config.torch_compile:
        name, function = f"{name}_between_regions", regions.between(function)
    _register(name, function)
    return name


def kernel_name(config: TrainConfig, padded: Padded | None) -> str:
    """Which function attends; arguments and errors as in `attention_name`."""
    wanted, has_flash = config.attn_implementation, _has_flash_attention()
    if wanted == "flash_attention_2" and not has_flash:
        raise MissingDependency(
            "attn_implementation flash_attention_2 needs a GPU and `pip install flash-attn`"
        )
    if wanted == "flash_attention_2" and not config.bf16:
        raise ConfigError("attn_implementation flash_attention_2 needs 'bf16': its kernels have no float32")
    if wanted == "flex_attention" and not _on_gpu(config):
        raise ConfigError(
            "attn_implementation flex_attention needs a GPU: on a CPU it has no backward pass; use auto"
        )
    if wanted == "sdpa" and padded is not None and padded.attention != "sdpa":
        raise ConfigError(f"attn_implementation sdpa is not for a model that {padded.reason}; use eager")
    if wanted in ("sdpa", "eager"):
        return wanted
    if padded is not None:
        return padded.instead_of(wanted)
    if not config.padding_free:
        return "flash_attention_2" if wanted == "flash_attention_2" else "sdpa"
    if wanted == "auto":
        return varlen.NAME if has_flash and config.bf16 else flex.NAME if _on_gpu(config) else attention.NAME
    chosen = {"flash_attention_2": varlen.NAME, "flex_attention": flex.NAME, "rows": attention.NAME}
    return chosen[wanted]


def _has_flash_attention() -> bool:
    from transformers.utils.import_utils import is_flash_attn_2_available

    return bool(is_flash_attn_2_available())


def _on_gpu(config: TrainConfig) -> bool:
    import torch

    return torch.cuda.is_available() and config.use_gpu is not False


def _register(name: str, function: Any) -> None:
    """Make a kernel known to transformers, with no mask to build: rows are told apart by their lengths."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(name, function)
    AttentionMaskInterface.register(name, attention.no_mask)
