"""Checkpoints and the final model, written by rank 0 with all ranks taking part.

A checkpoint is copied to rank 0's memory (the loop waits for that), then written, hashed and
renamed by a thread beside the loop; at most one is under way. Where memory has no room for the
copy it is written at once, a shard at a time.
"""

from __future__ import annotations

import queue
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from autoalign import manifest
from autoalign.training import checkpoint, export, memory, mirror
from autoalign.training.background import Background
from autoalign.training.best import Best
from autoalign.training.checkpoint import Progress
from autoalign.training.engines.base import Engine
from autoalign.training.model import ModelKind
from autoalign.training.space import show_bytes
from autoalign.training.storage import Storage, StorageError
from autoalign.training.task import TrainTask
from autoalign.training.tensors import copied, write_shards
from autoalign.training.uploads import FINAL_MODEL, Uploader
from autoalign.training.world import World

_STATE_BYTES = 12
"""Of a trained weight: its float32 master and both moments."""
_SHORT_PATIENCE = 20.0
"""Seconds that a job which was stopped or failed gives a storage that makes no headway."""


class Saver:
    """Writes what an engine holds."""

    def __init__(
        self,
        task: TrainTask,
        world: World,
        engine: Engine,
        tokenizer: Any,
        kind: ModelKind,
        storage: Storage | None = None,
    ) -> None:
        self._task, self._world, self._engine = task, world, engine
        self._tokenizer, self._kind = tokenizer, kind
        self._background = Background()
        self._news: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._has_room: bool | None = None
        self._storage = storage
        self._uploader = self._start_uploads(storage) if storage is not None and world.is_main else None

    def checkpoint(self, progress: Progress, best: Best | None = None) -> Path:
        """Save `checkpoint-STEP`; it has that name once it is whole. All ranks take part.

        Args:
            best: the best evaluation so far, whose checkpoint is kept.

        Raises:
            OSError: this one or the one before could not be written.
        """
        output_dir, name, is_main = self._task.output_dir, f"checkpoint-{progress.step}", self._world.is_main
        if is_main:
            self._background.wait()
            folder = checkpoint.begin(output_dir, name)
        weights = export.gather_weights(self._engine, is_main, self._task.config.use_lora)
        if not is_main:
            for _ in self._engine.state():
                pass
        elif self._writes_beside(weights):
            state = list(copied(self._engine.state()))
            self._background.start(lambda: self._write(folder, (progress, best), weights, state))
        else:
            self._write(folder, (progress, best), weights, copied(self._engine.state()))
        return output_dir / name

    def news(self) -> list[str]:
        """What was saved since the last call.

        Raises:
            OSError: a checkpoint could not be written.
        """
        self._background.check()
        return [self._news.get() for _ in range(self._news.qsize())]

    def wait(self) -> None:
        """Wait, on all ranks, until the checkpoint under way is there; errors as in `news`."""
        self._background.wait()
        self._world.barrier()

    def close(self) -> None:
        """Let what is under way be finished, however the loop ended; a second Ctrl-C doesn't wait."""
        is_urgent = isinstance(sys.exception(), KeyboardInterrupt)
        if not is_urgent:
            self._background.join()
        if self._uploader is not None:
            self._uploader.finish(0 if is_urgent else min(_SHORT_PATIENCE, self._task.config.storage_timeout))

    def finish_uploads(self, is_stopping: bool = False) -> str | None:
        """Wait for the copies in storage_path; what is missing there and why, on rank 0.

        Args:
            is_stopping: the machine may be about to go, so don't wait long for a storage that fails.
        """
        if self._uploader is None:
            return None
        patience = self._task.config.storage_timeout
        return self._uploader.finish(min(_SHORT_PATIENCE, patience) if is_stopping else patience)

    def final(self, made_by: Mapping[str, Any], best: Best | None = None, takes_best: bool = False) -> None:
        """Write the model into output_dir: under a temporary name, hashed, then moved up.

        Args:
            takes_best: the weights are those of the best checkpoint, if it is whole.
        """
        config, output_dir = self._task.config, self._task.output_dir
        self._background.wait()
        source = self._find_whole(best.step) if best and takes_best and self._world.is_main else None
        if not self._world.any(source is not None):
            weights = export.gather_weights(self._engine, self._world.is_main, config.use_lora)
        if self._world.is_main:
            folder = checkpoint.begin(output_dir, "final")
            model_folder = folder / "adapter" if config.use_lora else folder
            if source is None:
                self._write_model(model_folder, self._engine.module.model, weights)
            else:
                _copy_model(source, model_folder)
            if config.use_lora:
                model = export.merge_adapter(config, self._kind, self._task.model_path, model_folder)
                self._write_model(folder, model, model.state_dict())
            # A run that was killed before it pruned has one too many.
            self._prune(best)
            checkpoint.finish(folder, output_dir, {**self._task.made_by, **made_by})
            if self._uploader is not None:
                self._uploader.submit(FINAL_MODEL, None if best is None else best.step)
        self._world.barrier()

    def _find_whole(self, step: int) -> Path | None:
        """The best checkpoint, here or in storage_path; that there is none is said."""
        path = self._task.output_dir / f"checkpoint-{step}"
        if path.is_dir() and not manifest.damaged_files(path):
            return path
        try:
            if self._storage is not None and not mirror.fetch(self._storage, path.name, path.parent):
                return path
        except StorageError as error:
            self._news.put(f"warning: storage_path {error}")
        self._news.put(
            f"warning: {path}, the best checkpoint, is gone or damaged; the model is the last step's"
        )
        return None

    def _start_uploads(self, storage: Storage) -> Uploader:
        """What an earlier attempt could not copy goes first."""
        output_dir = self._task.output_dir
        uploader = Uploader(storage, output_dir, self._task.config.save_total_limit, self._news.put)
        for path in checkpoint.find_checkpoints(output_dir):
            if not manifest.damaged_files(path):
                uploader.submit(path.name, checkpoint.read_best_step(path))
        return uploader

    def _prune(self, best: Best | None) -> None:
        let_go = self._uploader.let_go if self._uploader is not None else lambda name: True
        keep, step = self._task.config.save_total_limit, None if best is None else best.step
        output_dir, start = self._task.output_dir, self._task.resume_from

        def may_go(name: str) -> bool:
            # The same command, which names it, is to go on another time.
            return str(output_dir / name) != start and let_go(name)

        checkpoint.prune(output_dir, keep, step, may_go)

    def _write(
        self,
        folder: Path,
        reached: tuple[Progress, Best | None],
        weights: Mapping[str, Tensor],
        state: Iterable[tuple[str, Tensor]],
    ) -> None:
        write_shards(folder / checkpoint.STATE_FOLDER, state)
        self._write_model(folder, self._engine.module.model, weights)
        progress, best = reached
        saved = checkpoint.commit(folder, progress, self._task.made_by, best)
        if self._uploader is not None:
            self._uploader.submit(saved.name, None if best is None else best.step)
        self._prune(best)
        self._news.put(f"saved {saved}")

    def _write_model(self, folder: Path, model: Any, weights: Mapping[str, Tensor]) -> None:
        export.write_model(folder, model, weights, self._tokenizer, self._task.template)

    def _writes_beside(self, weights: Mapping[str, Tensor]) -> bool:
        """Whether there is room for a copy of the state beside what the steps take; seen once, and said."""
        if not self._task.config.async_save:
            return False
        if self._has_room is None:
            trained = (p for p in self._engine.module.model.parameters() if p.requires_grad)
            state = _STATE_BYTES * sum(getattr(p, "ds_numel", p.numel()) for p in trained)
            spare = memory.spare_memory()
            self._has_room = state <= spare
            if not self._has_room:
                self._news.put(
                    f"checkpoints are written between steps: a copy takes {show_bytes(state)}, and memory "
                    f"has {show_bytes(max(0, spare))} to spare (--no_async_save asks for this)"
                )
        return self._has_room


def _copy_model(source: Path, target: Path) -> None:
    """A checkpoint's model files, without what training alone needs."""
    skipped = shutil.ignore_patterns(checkpoint.STATE_FOLDER, manifest.MANIFEST_NAME)
    shutil.copytree(source, target, ignore=skipped, dirs_exist_ok=True)
