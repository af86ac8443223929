"""Which choices of speed and memory go together: checked before anything is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autoalign.config.train import TrainConfig

_SHARES_ROWS = ("sft", "dpo")
"""Jobs whose losses are made of single tokens, which ranks can put together."""


def check(config: TrainConfig) -> None:
    """Refuse choices that contradict each other.

    Raises:
        ValueError: pydantic makes one message of it.
    """
    _check_checkpointing(config)
    _check_quantization(config)
    _check_sequence_parallel(config)
    _check_offload(config)


def is_quantized(config: TrainConfig) -> bool:
    """Whether the frozen base is held in 4 or 8 bits."""
    return config.load_in_4bit or config.load_in_8bit


def _check_checkpointing(config: TrainConfig) -> None:
    recomputes_all = config.gradient_checkpointing and config.gradient_checkpointing_every == 1
    if config.activation_offload and config.deepspeed == "zero3" and not recomputes_all:
        raise ValueError(
            "'activation_offload' under zero3 needs 'gradient_checkpointing' of every layer: without it, "
            "gathered weights would be moved as well"
        )
    if config.gradient_checkpointing_every > 1 and not config.gradient_checkpointing:
        raise ValueError("'gradient_checkpointing_every' is given without 'gradient_checkpointing'")


def _check_quantization(config: TrainConfig) -> None:
    if not is_quantized(config):
        return
    name = "load_in_4bit" if config.load_in_4bit else "load_in_8bit"
    if config.load_in_4bit and config.load_in_8bit:
        raise ValueError("'load_in_4bit' and 'load_in_8bit' are given together: choose one")
    if not config.use_lora:
        raise ValueError(f"'{name}' needs 'use_lora': quantised weights can't be trained, an adapter can")
    if config.deepspeed == "zero3" or config.offload_param != "none":
        raise ValueError(f"'{name}' and ZeRO-3 don't go together: use deepspeed none, or zero0 to zero2")


def _check_sequence_parallel(config: TrainConfig) -> None:
    size = config.sequence_parallel_size
    if size == 1:
        return
    if config.job not in _SHARES_ROWS:
        raise ValueError(
            f"'sequence_parallel_size' is for {' and '.join(_SHARES_ROWS)}, not for {config.job}"
        )
    if not config.padding_free or config.attn_implementation in ("sdpa", "eager"):
        raise ValueError(
            "'sequence_parallel_size' splits rows laid end to end: it needs 'padding_free' and "
            "attn_implementation auto, rows, flash_attention_2 or flex_attention"
        )
    if config.launcher != "ray":
        return
    if config.min_workers != config.max_workers:
        raise ValueError(
            f"'sequence_parallel_size' {size} needs a fixed 'num_workers', not {config.num_workers}"
        )
    if config.max_workers % size:
        raise ValueError(
            f"'sequence_parallel_size' {size} does not divide 'num_workers' {config.num_workers}"
        )


def _check_offload(config: TrainConfig) -> None:
    places = {"offload_optimizer": config.offload_optimizer, "offload_param": config.offload_param}
    least = {"offload_optimizer": 1, "offload_param": 3}
    for name, place in places.items():
        stages = [f"zero{stage}" for stage in range(least[name], 4)]
        if place != "none" and config.deepspeed not in stages and not config.deepspeed.endswith(".json"):
            raise ValueError(
                f"'{name}' is DeepSpeed ZeRO's: it needs 'deepspeed' {' or '.join(stages)}, "
                f"not {config.deepspeed}"
            )
    if "nvme" in places.values() and config.deepspeed in ("zero1", "zero2"):
        raise ValueError("offloading to nvme is ZeRO-3's: it needs 'deepspeed' zero3")
    if ("nvme" in places.values()) != (config.offload_path is not None):
        raise ValueError("'offload_path' and offloading to nvme are given together or not at all")
