"""What of a run lies in `storage_path`, laid out as in output_dir.

A checkpoint there counts once its manifest is there, which is sent last and deleted first: a copy
that broke off, or that is being deleted, never does. Its hashes are checked when it is fetched.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path

from autoalign import manifest
from autoalign.atomic_files import replacing
from autoalign.training import checkpoint
from autoalign.training.storage import Storage, StorageError

RUN_NAME = "run.json"
FIGURES = ("metrics.jsonl", "loss.png", "rewards.png", "errors.jsonl")
"""Sent beside every checkpoint and the final model, where they are there."""


def whole_steps(storage: Storage, since: str = "") -> list[int]:
    """Steps of the checkpoints that are there whole, and made at that time or later, lowest first."""
    return [step for step, created in _whole(storage) if created >= since]


def _whole(storage: Storage) -> list[tuple[int, str]]:
    """Step of each whole checkpoint, lowest first, and when it was made."""
    names = [name for name in storage.names() if checkpoint.is_name(name)]
    manifests = {name: storage.read_json(f"{name}/{manifest.MANIFEST_NAME}") for name in names}
    return sorted(
        (checkpoint.step_of(Path(name)), str(content.get("created", "")))
        for name, content in manifests.items()
        if "files" in content
    )


def send(storage: Storage, folder: Path, name: str, moved: Callable[[], None], done: set[str]) -> None:
    """Copy the files of a manifest, and the manifest last.

    Args:
        folder: local folder with a manifest.
        name: its name in the storage; empty for the run's own folder.
        done: files that an earlier attempt has sent; those of this one are added.

    Raises:
        FileNotFoundError: the local folder is gone.
        StorageError: the storage can't be reached.
        ValueError: a local file differs from its hash.
    """
    prefix = f"{name}/" if name else ""
    files = manifest.read(folder).get("files")
    if files is None:
        if (folder / manifest.MANIFEST_NAME).is_file():
            raise ValueError(f"{folder / manifest.MANIFEST_NAME} is damaged")
        raise FileNotFoundError(f"{folder} has no {manifest.MANIFEST_NAME}")
    if not done:
        storage.remove(f"{prefix}{manifest.MANIFEST_NAME}")
    for file, digest in files.items():
        if file not in done:
            if storage.put(folder / file, prefix + file, moved) != digest:
                raise ValueError(f"{folder / file} is damaged")
            done.add(file)
    storage.put(folder / manifest.MANIFEST_NAME, prefix + manifest.MANIFEST_NAME, moved)


def send_figures(storage: Storage, output_dir: Path) -> None:
    """Copy metrics and pictures."""
    for name in FIGURES:
        if (output_dir / name).is_file():
            storage.put(output_dir / name, name)


def prune(storage: Storage, keep: int | None, best: int | None) -> None:
    """Delete all checkpoints but the newest `keep` and the best one; their manifests go first."""
    steps = whole_steps(storage)
    for step in steps[:-keep] if keep else []:
        if step != best:
            _drop(storage, f"checkpoint-{step}")


def drop_abandoned(storage: Storage, after: int, before: str) -> list[str]:
    """As `checkpoint.drop_abandoned`.

    Raises:
        StorageError: the storage can't be reached.
    """
    abandoned = [
        f"checkpoint-{step}" for step, created in _whole(storage) if step > after and created < before
    ]
    for name in abandoned:
        _drop(storage, name)
    return abandoned


def _drop(storage: Storage, name: str) -> None:
    storage.remove(f"{name}/{manifest.MANIFEST_NAME}")
    storage.remove(name)


def fetch(storage: Storage, name: str, output_dir: Path) -> list[str]:
    """Copy a checkpoint into `output_dir`, whole or not at all; the files that differ from their hashes.

    Raises:
        StorageError: the storage can't be reached.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    # Ranks of one machine share the copy.
    with (output_dir / ".fetch.tmp").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        target = output_dir / name
        if target.is_dir() and _is_copy(storage, target) and not manifest.damaged_files(target):
            return []
        temporary = checkpoint.begin(output_dir, name)
        damaged = _fetch_files(storage, name, temporary)
        if damaged:
            shutil.rmtree(temporary)
            return damaged
        if target.exists():
            checkpoint.drop(target)
        temporary.rename(target)
    return []


def _is_copy(storage: Storage, target: Path) -> bool:
    """Not another checkpoint of that step, from before the run went back."""
    return manifest.read(target) == storage.read_json(f"{target.name}/{manifest.MANIFEST_NAME}")


def fetch_model(storage: Storage, output_dir: Path) -> list[str]:
    """Copy the final model into `output_dir`, its manifest last; the files that differ from their hashes."""
    temporary = checkpoint.begin(output_dir, "final")
    damaged = _fetch_files(storage, "", temporary)
    if damaged:
        shutil.rmtree(temporary)
        return damaged
    shutil.rmtree(temporary / checkpoint.STATE_FOLDER)
    checkpoint.move_up(temporary, output_dir)
    fetch_figures(storage, output_dir)
    return []


def fetch_figures(storage: Storage, output_dir: Path) -> None:
    """Copy the metrics and pictures that are there, and not here."""
    there = storage.names()
    for name in FIGURES:
        if name in there and not (output_dir / name).exists():
            with replacing(output_dir / name) as temporary:
                storage.get(name, temporary)


def _fetch_files(storage: Storage, name: str, folder: Path) -> list[str]:
    prefix = f"{name}/" if name else ""
    content = storage.read_json(prefix + manifest.MANIFEST_NAME)
    if "files" not in content:
        raise StorageError(f"{storage.url}: {prefix}{manifest.MANIFEST_NAME} is gone")
    damaged = [
        file
        for file, digest in content["files"].items()
        if storage.get(prefix + file, folder / file) != digest
    ]
    if not damaged:
        manifest.write_json(folder / manifest.MANIFEST_NAME, content)
    return damaged


def delete_run(storage: Storage) -> None:
    """Delete what a run of ours left there, `run.json` last, and nothing else."""
    model = storage.read_json(manifest.MANIFEST_NAME).get("files", {})
    tops = {file.partition("/")[0] for file in model}
    storage.remove(manifest.MANIFEST_NAME)
    for name in storage.names():
        if checkpoint.is_name(name) or name in tops or name in FIGURES:
            storage.remove(name)
    storage.remove(RUN_NAME)
