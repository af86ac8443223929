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
import os
import re
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from autoalign import manifest
from autoalign.errors import ConfigError
from autoalign.training import watchdog
from autoalign.training.best import Best

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


def is_name(name: str) -> bool:
    """Whether this is a finished checkpoint's name."""
    return _NAME.fullmatch(name) is not None


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


def is_made_since(checkpoint: Path, time: str) -> bool:
    """Whether a checkpoint is of that time (as `manifest.now` has it) or later; no torn one is."""
    return str(manifest.read(checkpoint).get("created", "")) >= time


def newest_whole(
    output_dir: Path,
    warn: Callable[[str], None],
    elsewhere: Collection[int] = (),
    fetch: Callable[[str], str | None] = lambda name: None,
    since: str = "",
) -> Path | None:
    """The newest checkpoint whose files match their hashes; damaged ones are named and passed over.

    Args:
        elsewhere: steps of checkpoints that `fetch` can bring to `output_dir`.
        fetch: takes a checkpoint's name; says what went wrong, or nothing.
        since: those made before that time don't count.
    """
    here = {step_of(path) for path in find_checkpoints(output_dir) if is_made_since(path, since)}
    for step in sorted(here.union(elsewhere), reverse=True):
        checkpoint = output_dir / f"checkpoint-{step}"
        if step in here:
            damaged = manifest.damaged_files(checkpoint)
            if not damaged:
                return checkpoint
            other = "its copy in storage_path" if step in elsewhere else "the one before it"
            warn(f"{checkpoint} is damaged ({', '.join(damaged[:3])}); trying {other}")
        if step in elsewhere:
            problem = fetch(checkpoint.name)
            if problem is None:
                return checkpoint
            warn(f"{problem}; trying the one before it")
    return None


def read_progress(checkpoint: Path) -> Progress:
    """The progress stored in a checkpoint."""
    return Progress(**{key: value for key, value in _state(checkpoint).items() if key != "best"})


def read_best(checkpoint: Path) -> Best | None:
    """The best evaluation up to a checkpoint."""
    best = _state(checkpoint).get("best")
    return None if best is None else Best(*best)


def read_best_step(checkpoint: Path) -> int | None:
    """The step of that evaluation."""
    best = read_best(checkpoint)
    return None if best is None else best.step


def _state(checkpoint: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(
        (checkpoint / STATE_FOLDER / "state.json").read_text(encoding="utf-8")
    )
    return content


def begin(output_dir: Path, name: str) -> Path:
    """An empty folder to write `name` in, under a temporary name."""
    temporary = output_dir / f".{name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    (temporary / STATE_FOLDER).mkdir(parents=True)
    return temporary


def commit(temporary: Path, progress: Progress, made_by: Mapping[str, Any], best: Best | None = None) -> Path:
    """Write progress and hashes, then give the folder its name: from now on it counts."""
    manifest.write_json(temporary / STATE_FOLDER / "state.json", {**asdict(progress), "best": best})
    manifest.write(temporary, made_by, watchdog.touch)
    final = temporary.with_name(temporary.name.removeprefix(".").removesuffix(".tmp"))
    if final.exists():
        drop(final)
    for path in (*temporary.rglob("*"), temporary):
        _sync(path)
        watchdog.touch()
    temporary.rename(final)
    _sync(final.parent)
    return final


def _sync(path: Path) -> None:
    """Have a file, or a folder's names, on the disk: else a power loss leaves a name without its content."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError:
        if not path.is_dir():  # network file systems may refuse it for folders
            raise
    finally:
        os.close(opened)


def drop(checkpoint: Path) -> None:
    """Delete a checkpoint under another name: killed half-way, no torn one is left behind."""
    hidden = checkpoint.with_name(f".{checkpoint.name}.old.tmp")
    shutil.rmtree(hidden, ignore_errors=True)
    checkpoint.rename(hidden)
    shutil.rmtree(hidden)


def drop_abandoned(output_dir: Path, after: int, before: str) -> list[str]:
    """Delete the checkpoints past a step that a run went back to; their names.

    Args:
        before: the time at which it went back; what was made since stays.
    """
    found = [path for path in find_checkpoints(output_dir) if step_of(path) > after]
    abandoned = [path for path in found if not is_made_since(path, before)]
    for path in abandoned:
        drop(path)
    return [path.name for path in abandoned]


def remove_unfinished(output_dir: Path) -> None:
    """Delete what was being written when a run ended."""
    for path in output_dir.glob(".*.tmp"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def prune(
    output_dir: Path,
    keep: int | None,
    best: int | None = None,
    let_go: Callable[[str], bool] = lambda name: True,
) -> None:
    """Delete all but the newest `keep` checkpoints and the best one.

    Args:
        best: its step.
        let_go: whether a checkpoint of this name may be deleted now.
    """
    for checkpoint in find_checkpoints(output_dir)[:-keep] if keep else []:
        if step_of(checkpoint) != best and let_go(checkpoint.name):
            drop(checkpoint)


def finish(temporary: Path, output_dir: Path, made_by: Mapping[str, Any]) -> None:
    """Hash a finished model's files and move them up into `output_dir`."""
    shutil.rmtree(temporary / STATE_FOLDER, ignore_errors=True)
    manifest.write(temporary, made_by, watchdog.touch)
    move_up(temporary, output_dir)


def move_up(temporary: Path, output_dir: Path) -> None:
    """Move a finished model's files up into `output_dir`, the manifest last."""
    for path in sorted(temporary.iterdir(), key=lambda path: path.name == manifest.MANIFEST_NAME):
        target = output_dir / path.name
        if target.is_dir():
            shutil.rmtree(target)
        path.rename(target)
    temporary.rmdir()
