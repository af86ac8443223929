"""Checkpoints: whole or absent, hashed, limited in number, and tied to the job that made them.

OUTPUT_DIR/
  run.json               what this folder's job is (its fingerprint)
  checkpoint-200/        a model folder (LoRA: an adapter folder)
    trainer/             float32 masters and AdamW moments (safetensors), state.json
    autoalign.json       what made it, and every file's SHA-256
  config.json ...        the final model, once the job is done
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from autoalign import manifest
from autoalign.errors import ConfigError

_NAME = re.compile(r"checkpoint-(\d+)")
STATE_FOLDER = "trainer"


@dataclass(frozen=True)
class Progress:
    """Where training is: everything else about the data order and RNG follows from `step` and the seed."""

    step: int = 0
    tokens: int = 0
    supervised_tokens: int = 0
    seconds: float = 0.0
    skipped_steps: int = 0
    """Of `step`: those that changed no weight, because their loss or gradient was bad."""
    recent_losses: Sequence[float] = ()
    recent_norms: Sequence[float] = ()
    """What `loss_spike_factor` compares with."""


def find_checkpoints(output_dir: Path) -> list[Path]:
    """Finished checkpoints, oldest first; half-written ones carry another name."""
    found = [path for path in output_dir.glob("checkpoint-*") if _NAME.fullmatch(path.name)]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """The step in a checkpoint's name."""
    match = _NAME.fullmatch(checkpoint.name)
    if match is None:
        raise ConfigError(f"{checkpoint}: a checkpoint folder is named checkpoint-STEP")
    return int(match[1])


def newest_whole(output_dir: Path, warn: Callable[[str], None]) -> Path | None:
    """The newest checkpoint whose files match their hashes; damaged ones are named and passed over."""
    for checkpoint in reversed(find_checkpoints(output_dir)):
        damaged = manifest.damaged_files(checkpoint)
        if not damaged:
            return checkpoint
        warn(f"{checkpoint} is damaged ({', '.join(damaged[:3])}); trying the one before it")
    return None


def read_progress(checkpoint: Path) -> Progress:
    """The progress stored in a checkpoint."""
    return Progress(**json.loads((checkpoint / STATE_FOLDER / "state.json").read_text(encoding="utf-8")))


def begin(output_dir: Path, name: str) -> Path:
    """An empty folder to write `name` in, under a temporary name."""
    temporary = output_dir / f".{name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    (temporary / STATE_FOLDER).mkdir(parents=True)
    return temporary


def commit(temporary: Path, progress: Progress, made_by: Mapping[str, Any]) -> Path:
    """Write progress and hashes, then give the folder its name: from now on it counts."""
    manifest.write_json(temporary / STATE_FOLDER / "state.json", asdict(progress))
    manifest.write(temporary, made_by)
    final = temporary.with_name(temporary.name.removeprefix(".").removesuffix(".tmp"))
    if final.exists():
        shutil.rmtree(final)
    temporary.rename(final)
    return final


def remove_unfinished(output_dir: Path) -> None:
    """Delete what was being written when a run ended."""
    for path in output_dir.glob(".*.tmp"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def prune(output_dir: Path, keep: int | None) -> None:
    """Delete all but the newest `keep` checkpoints."""
    if keep is None:
        return
    for checkpoint in find_checkpoints(output_dir)[:-keep]:
        shutil.rmtree(checkpoint)


def finish(temporary: Path, output_dir: Path, made_by: Mapping[str, Any]) -> None:
    """Hash a finished model's files and move them up into `output_dir`, the manifest last."""
    shutil.rmtree(temporary / STATE_FOLDER, ignore_errors=True)
    manifest.write(temporary, made_by)
    for path in sorted(temporary.iterdir(), key=lambda path: path.name == manifest.MANIFEST_NAME):
        target = output_dir / path.name
        if target.is_dir():
            shutil.rmtree(target)
        path.rename(target)
    temporary.rmdir()
