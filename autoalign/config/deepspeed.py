"""DeepSpeed's own settings, made from a training config or read from a JSON file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from autoalign.config.train import TrainConfig
from autoalign.errors import ConfigError, nearest

_ZERO = {"overlap_comm": False, "contiguous_gradients": True, "reduce_bucket_size": 5 * 10**7}
"""For all stages; DeepSpeed's own buckets are ten times as large, 1 GB of a GPU in bf16."""


def settings(config: TrainConfig, world_size: int) -> dict[str, Any]:
    """The dict that `deepspeed.initialize` takes.

    `"auto"` in a JSON file takes the job's value; another value than the job's is refused.

    Raises:
        ConfigError: a JSON file that can't be read or contradicts the job.
    """
    if config.deepspeed.endswith(".json"):
        given = _read(Path(config.deepspeed))
    else:
        stage = int(config.deepspeed.removeprefix("zero"))
        given = {"zero_optimization": {"stage": stage, **_ZERO}}
    _refuse_other_optimizers(given, config.deepspeed)
    _check_stage(given, config.deepspeed)
    known = _from_job(config, world_size)
    merged = _fill(given, known, config.deepspeed)
    merged.setdefault("zero_optimization", {}).setdefault("stage", 0)
    return merged


def _refuse_other_optimizers(given: dict[str, Any], name: str) -> None:
    """Optimizer and schedule come from the job; files made for other trainers often repeat them."""
    kind = given.pop("optimizer", {}).get("type", "AdamW")
    given.pop("scheduler", None)
    if kind not in ("Adam", "AdamW"):
        raise ConfigError(f"{name}: 'optimizer.type' is {kind!r}, not AdamW: remove 'optimizer'")


def _check_stage(given: dict[str, Any], name: str) -> None:
    """DeepSpeed passes over keys that it doesn't know: a mistyped one would mean stage 0."""
    for key in given:
        hint = nearest(key, ["zero_optimization"])
        if hint and key != "zero_optimization":
            raise ConfigError(f"{name}: unknown key '{key}'{hint}")
    zero = given.get("zero_optimization", {})
    stage = zero.get("stage", 0) if isinstance(zero, dict) else None
    if stage not in (0, 1, 2, 3) or isinstance(stage, bool):
        raise ConfigError(
            f"{name}: 'zero_optimization' is {zero!r}; an object with a stage from 0 to 3 is expected"
        )
    half = given.get("fp16", {})
    if isinstance(half, dict) and half.get("enabled") is True:
        raise ConfigError(f"{name}: 'fp16.enabled' is true, but jobs train in bf16 or fp32: remove 'fp16'")


def _from_job(config: TrainConfig, world_size: int) -> dict[str, Any]:
    accumulation = config.accumulation(world_size)
    per_worker = config.per_device_train_batch_size * accumulation
    settings: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": config.per_device_train_batch_size,
        "gradient_accumulation_steps": accumulation,
        "train_batch_size": per_worker * world_size,
        "gradient_clipping": config.max_grad_norm,
        "bf16": {"enabled": config.bf16},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 1 << 30,
        "wall_clock_breakdown": False,
    }
    if offload := _offload(config):
        settings["zero_optimization"] = offload
    return settings


def _offload(config: TrainConfig) -> dict[str, Any]:
    """Where ZeRO keeps what it moves off the GPU (ZeRO-Offload, arXiv:2101.06840; -Infinity, 2104.07857)."""
    places = {"offload_optimizer": config.offload_optimizer, "offload_param": config.offload_param}
    path = {"nvme_path": config.offload_path}
    return {
        name: {"device": place, "pin_memory": True, **(path if place == "nvme" else {})}
        for name, place in places.items()
        if place != "none"
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: a JSON object with DeepSpeed's settings is expected")
    return content


def _fill(given: dict[str, Any], known: dict[str, Any], name: str, prefix: str = "") -> dict[str, Any]:
    merged = dict(given)
    for key, value in known.items():
        present = given.get(key, "auto")
        if isinstance(value, dict):
            inner = present if isinstance(present, dict) else {}
            merged[key] = _fill(inner, value, name, f"{prefix}{key}.")
        elif present == "auto":
            merged[key] = value
        elif present != value and key not in ("steps_per_print", "wall_clock_breakdown"):
            raise ConfigError(
                f"{name}: '{prefix}{key}' is {present!r}, but the job says {value!r}; write \"auto\" there"
            )
    return _without_auto(merged)


def _without_auto(values: dict[str, Any]) -> dict[str, Any]:
    """Keys still 'auto' are left out, so that DeepSpeed takes its default."""
    return {
        key: _without_auto(value) if isinstance(value, dict) else value
        for key, value in values.items()
        if value != "auto"
    }
