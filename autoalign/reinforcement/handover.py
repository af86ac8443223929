"""The trainer's weights on their way to an engine: a model folder in shared memory.

The folder is what a checkpoint would hold (safetensors, Hugging Face names; a LoRA adapter is added
in), so an engine of any kind, with any number of workers on this machine, reads it as it reads models.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from autoalign.config.grpo import GRPOConfig
from autoalign.errors import ConfigError
from autoalign.training import export
from autoalign.training.engines.base import Engine
from autoalign.training.supervised import base_model
from autoalign.training.world import World

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (the folder in it is private)
_ADAPTER = "base_model.model."
_PREFIX = "autoalign-weights-"
_FRESH = 60.0  # seconds in which a folder may not be locked yet


class Handover:
    """A private folder, gone with `close`; those that killed jobs have left are gone at the next start.

    Raises:
        ConfigError: `handover_dir` can't be written.
    """

    def __init__(self, config: GRPOConfig, model_bytes: int) -> None:
        self._scale = config.lora_alpha / config.lora_rank if config.use_lora else None
        parent = Path(config.handover_dir) if config.handover_dir else _roomy(model_bytes)
        try:
            sweep(parent)
            self._home = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            self._lock = os.open(self._home, os.O_RDONLY)
            fcntl.flock(self._lock, fcntl.LOCK_SH)
        except OSError as error:
            raise ConfigError(f"'handover_dir': {parent} can't be written: {error.strerror}") from None

    def write(self, engine: Engine, world: World) -> Path:
        """The engine's weights of now, on rank 0; all ranks take part."""
        weights = export.gather_weights(engine, world.is_main, adapter_only=False)
        folder = self._home / "model"
        if world.is_main:
            if self._scale is not None:
                weights = merged(weights, self._scale)
            shutil.rmtree(folder, ignore_errors=True)
            base_model(engine.module.model).save_pretrained(folder, state_dict=weights)
        return folder

    def close(self) -> None:
        """Give the memory back."""
        shutil.rmtree(self._home, ignore_errors=True)
        os.close(self._lock)


def sweep(parent: Path) -> None:
    """Remove this user's folders whose job no longer lives: its lock on them went with it."""
    for folder in parent.glob(f"{_PREFIX}*"):
        try:
            about = folder.stat(follow_symlinks=False)
            if about.st_uid != os.getuid() or time.time() - about.st_mtime < _FRESH:
                continue
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:  # it went away, or is not a folder
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(lock)


def merged(weights: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """A PEFT model's weights as its base model's: W + BA * scale, in W's type, under W's own name."""
    found = {}
    for name, tensor in weights.items():
        if ".lora_" in name:
            continue
        stem, is_adapted, _ = name.partition("base_layer.weight")
        if is_adapted:
            down, up = weights[f"{stem}lora_A.default.weight"], weights[f"{stem}lora_B.default.weight"]
            tensor = (tensor.float() + scale * (up.float() @ down.float())).to(tensor.dtype)
        found[name.removeprefix(_ADAPTER).replace(".base_layer.", ".")] = tensor
    return found


def _roomy(wanted: int) -> Path:
    """Shared memory, or the folder for temporary files where it is too small (in a container, say)."""
    if _SHARED_MEMORY.is_dir() and shutil.disk_usage(_SHARED_MEMORY).free > wanted:
        return _SHARED_MEMORY
    return Path(tempfile.gettempdir())
