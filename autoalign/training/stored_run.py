"""Whose run is in `storage_path`? As output.py for output_dir: a run goes on in its own, and no other's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autoalign import manifest
from autoalign.config.train import TrainConfig
from autoalign.errors import ConfigError, JobFailed
from autoalign.training import checkpoint, mirror, output
from autoalign.training.storage import Storage, StorageError, connect
from autoalign.training.task import TrainReport
from autoalign.training.uploads import FINAL_MODEL, Uploader


def storage_of(config: TrainConfig) -> Storage | None:
    """The job's storage, if it has one; errors as in `connect`."""
    return None if config.storage_path is None else connect(config.storage_path)


def read(config: TrainConfig, mine: dict[str, Any], storage: Storage) -> dict[str, Any]:
    """The `run.json` there; empty when there is none, or one to be deleted.

    Args:
        mine: this job's fingerprint.

    Raises:
        ConfigError: it holds another run or other things, or can't be reached.
    """
    with _refusing():
        content = storage.read_json(mirror.RUN_NAME)
        if not content:
            _refuse_foreign(storage)
        if not content or config.overwrite_output_dir:
            return {}
        if config.resume == "never":
            raise ConfigError(
                f"storage_path {storage.url} holds a run already, and resume is never; give --resume auto "
                "to go on with it, --overwrite_output_dir to delete it, or another --storage_path"
            )
        output.compare(content.get("fingerprint", {}), mine, storage.url, "--storage_path")
        return content


def finished(config: TrainConfig, content: dict[str, Any], storage: Storage) -> TrainReport | None:
    """The report of a finished run whose model is only there; the model is fetched.

    Args:
        content: what `read` gave.

    Raises:
        ConfigError: it can't be reached, or the model is damaged.
    """
    if not content.get("report"):
        return None
    folder = Path(config.output_dir)
    with _refusing():
        if damaged := mirror.fetch_model(storage, folder):
            raise ConfigError(
                f"storage_path {storage.url}: the finished model is damaged ({', '.join(damaged[:3])}); "
                "give --overwrite_output_dir to train it again"
            )
        manifest.write_json(folder / mirror.RUN_NAME, content)
        return TrainReport(**{**content["report"], "output_dir": folder})


def claim(config: TrainConfig, storage: Storage) -> None:
    """Make it this run's, by a copy of `run.json`: that it can be written shows before the work starts.

    Raises:
        ConfigError: it can't be written.
    """
    with _refusing():
        if config.overwrite_output_dir and storage.read_json(mirror.RUN_NAME):
            mirror.delete_run(storage)
        storage.put(Path(config.output_dir) / mirror.RUN_NAME, mirror.RUN_NAME)


def release(storage: Storage) -> None:
    """Take back a claim, if there is nothing but it."""
    with _refusing():
        if storage.names() == [mirror.RUN_NAME]:
            storage.remove(mirror.RUN_NAME)


def mark_done(storage: Storage, report: TrainReport) -> None:
    """Copy `run.json` with the figures of the finished job.

    Raises:
        JobFailed: something of the run is not there; all of it is in output_dir.
    """
    problem = report.storage_problem
    if problem is None:
        try:
            storage.put(report.output_dir / mirror.RUN_NAME, mirror.RUN_NAME)
            return
        except StorageError as error:
            problem = f"{mirror.RUN_NAME}: {error}"
    raise JobFailed(
        f"training is done and {report.output_dir} holds the model, but storage_path {storage.url} lacks "
        f"{problem}. Run the same command again to copy what is missing; nothing is trained again"
    )


def copy_missing(config: TrainConfig, storage: Storage) -> str | None:
    """Copy what is whole in output_dir and not there; what is still missing, and why."""
    folder = Path(config.output_dir)
    uploader = Uploader(storage, folder, config.save_total_limit, lambda _: None)
    for path in checkpoint.find_checkpoints(folder):
        uploader.submit(path.name, checkpoint.read_best_step(path))
    uploader.submit(FINAL_MODEL)
    return uploader.finish(config.storage_timeout)


def _refuse_foreign(storage: Storage) -> None:
    if names := storage.names():
        shown = ", ".join(names[:3])
        raise ConfigError(
            f"storage_path {storage.url} holds other things ({shown}{', ...' if len(names) > 3 else ''}) and "
            "no run of AutoAlign; give a new or empty folder"
        )


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except StorageError as error:
        raise ConfigError(f"storage_path {error}; give another --storage_path, or none") from None
