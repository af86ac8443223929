"""Is there room on the disk for what the job will write?"""

from __future__ import annotations

import json
import math
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

from autoalign.config.train import TrainConfig
from autoalign.errors import ConfigError

FreeBytes = Callable[[Path], int]


def parameter_count(folder: Path) -> int:
    """Weights in a model folder's safetensors files, from their headers."""
    return sum(_numel_in(path) for path in folder.glob("*.safetensors"))


def _numel_in(path: Path) -> int:
    # https://huggingface.co/docs/safetensors: 8 bytes of header length, then a JSON header.
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")


def bytes_needed(config: TrainConfig, parameters: int) -> int:
    """What the final model and the checkpoints kept at once take (one more while one is replaced)."""
    weights = parameters * (2 if config.bf16 else 4)
    if config.use_lora or config.save_steps is None:
        return weights
    checkpoint = parameters * 14 if config.bf16 else parameters * 12
    kept = min((config.save_total_limit or 2) + 1, 3)
    return weights + kept * checkpoint


def require(config: TrainConfig, model_path: str, free_bytes: FreeBytes | None = None) -> None:
    """Raises ConfigError when the disk under output_dir lacks the room."""
    folder = Path(config.output_dir)
    free = (free_bytes or _free)(folder)
    needed = bytes_needed(config, parameter_count(Path(model_path)))
    if free < needed:
        raise ConfigError(
            f"output_dir {folder}: {free / 1e9:.1f} GB are free, the model and its checkpoints take "
            f"{needed / 1e9:.1f} GB; free some, lower --save_total_limit, or give another --output_dir"
        )


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free
