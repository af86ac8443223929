"""The checkpoint to go on from, the same on every rank: the newest whole one here or in storage_path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from autoalign import manifest
from autoalign.errors import JobFailed
from autoalign.training import checkpoint, mirror
from autoalign.training.storage import Storage, StorageError
from autoalign.training.task import TrainTask
from autoalign.training.world import World

Note = Callable[[str], None]


def find_start(task: TrainTask, world: World, storage: Storage | None, note: Note) -> Path | None:
    """A whole checkpoint in a local folder; None: start anew. All ranks take part.

    A run that went on from `resume_from` before goes on from what it has saved since. What was there past
    that step before it did is deleted.

    Raises:
        JobFailed: nothing is here and storage_path can't be looked into, or this rank sees no such folder.
    """
    found = _own(task, storage, note) if world.is_main else None
    (step,) = world.sum(checkpoint.step_of(found) if found is not None else 0)
    if not step:
        return None if task.resume_from is None else Path(task.resume_from)
    start = task.output_dir / f"checkpoint-{int(step)}"
    if not world.is_main:
        _bring_here(start, storage, task.began or "")
    return start


def _own(task: TrainTask, storage: Storage | None, note: Note) -> Path | None:
    """The newest checkpoint of this run itself."""
    if task.resume_from is None:
        return _newest(task.output_dir, storage, note)
    if task.began is None:
        return None
    _drop_abandoned(task, storage, note)
    found = _newest(task.output_dir, storage, note, task.began)
    if found is not None:
        note(f"this run went on from {task.resume_from} at {task.began}; it has saved {found} since")
    return found


def _drop_abandoned(task: TrainTask, storage: Storage | None, note: Note) -> None:
    """Delete what lies past `resume_from` and is older than the wish to go back to it.

    It would be taken for the newest, and of a limited number for those to keep.
    """
    assert task.resume_from is not None and task.began is not None
    start, began = Path(task.resume_from), task.began
    is_named = checkpoint.is_name(start.name)
    step = checkpoint.step_of(start) if is_named else checkpoint.read_progress(start).step
    places = {str(task.output_dir): checkpoint.drop_abandoned(task.output_dir, step, began)}
    if storage is not None:
        try:
            places[storage.url] = mirror.drop_abandoned(storage, step, began)
        except StorageError as error:
            note(f"warning: storage_path {error}; its checkpoints past step {step} are not deleted")
    for place, names in places.items():
        if names:
            note(f"going back to {task.resume_from}: deleted {', '.join(names)} of before in {place}")


def _newest(output_dir: Path, storage: Storage | None, note: Note, since: str = "") -> Path | None:
    if storage is None:
        return checkpoint.newest_whole(output_dir, note, since=since)
    there = _steps_there(storage, output_dir, note, since)

    def fetch(name: str) -> str | None:
        try:
            damaged = mirror.fetch(storage, name, output_dir)
        except StorageError as error:
            return str(error)
        if damaged:
            return f"{storage.url}/{name} is damaged ({', '.join(damaged[:3])})"
        note(f"fetched {name} from {storage.url}")
        return None

    start = checkpoint.newest_whole(output_dir, note, there, fetch, since)
    if start is not None:
        _fetch_figures(storage, output_dir, note)
    return start


def _fetch_figures(storage: Storage, output_dir: Path, note: Note) -> None:
    """The lines of metrics.jsonl that the steps before have written."""
    try:
        mirror.fetch_figures(storage, output_dir)
    except StorageError as error:
        note(f"warning: {error}; metrics.jsonl starts anew")


def _steps_there(storage: Storage, output_dir: Path, note: Note, since: str) -> list[int]:
    try:
        return mirror.whole_steps(storage, since)
    except StorageError as error:
        if not checkpoint.find_checkpoints(output_dir):
            raise JobFailed(
                f"storage_path {error}; {output_dir} has no checkpoint, and none can be looked for there"
            ) from None
        note(f"warning: storage_path {error}; only the checkpoints in {output_dir} are looked at")
        return []


def _bring_here(start: Path, storage: Storage | None, since: str) -> None:
    """On another machine than rank 0's, output_dir may be another folder."""
    if start.is_dir() and checkpoint.is_made_since(start, since) and not manifest.damaged_files(start):
        return
    if storage is None:
        raise JobFailed(
            f"{start} is on the first worker's machine, and not on this one: put output_dir on a file "
            "system that all machines share, or give --storage_path"
        )
    if damaged := mirror.fetch(storage, start.name, start.parent):
        raise JobFailed(f"{storage.url}/{start.name} is damaged ({', '.join(damaged[:3])})")
