"""Checkpoints and the final model, written by rank 0 with all ranks taking part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoalign.training import checkpoint, export
from autoalign.training.checkpoint import Progress
from autoalign.training.engines.base import Engine
from autoalign.training.model import ModelKind
from autoalign.training.task import TrainTask
from autoalign.training.tensors import write_shards
from autoalign.training.world import World


@dataclass(frozen=True)
class Saver:
    """Writes what an engine holds."""

    task: TrainTask
    world: World
    engine: Engine
    tokenizer: Any
    kind: ModelKind

    def checkpoint(self, progress: Progress) -> Path:
        """Write `checkpoint-STEP` under a temporary name, then rename it."""
        config, name = self.task.config, f"checkpoint-{progress.step}"
        folder = self.task.output_dir / f".{name}.tmp"
        if self.world.is_main:
            checkpoint.begin(self.task.output_dir, name)
        self.world.barrier()
        weights = export.gather_weights(self.engine, self.world.is_main, config.use_lora)
        write_shards(folder / checkpoint.STATE_FOLDER, self.engine.state(), self.world.is_main)
        if self.world.is_main:
            export.write_model(folder, self.engine.module.model, weights, self.tokenizer, self.task.template)
            checkpoint.commit(folder, progress, self.task.made_by)
            checkpoint.prune(self.task.output_dir, config.save_total_limit)
        self.world.barrier()
        return self.task.output_dir / name

    def final(self, made_by: Mapping[str, Any]) -> None:
        """Write the model into output_dir: under a temporary name, hashed, then moved up."""
        config = self.task.config
        weights = export.gather_weights(self.engine, self.world.is_main, config.use_lora)
        if self.world.is_main:
            folder = checkpoint.begin(self.task.output_dir, "final")
            model = self.engine.module.model
            if config.use_lora:
                export.write_model(folder / "adapter", model, weights, self.tokenizer, self.task.template)
                model = export.merge_adapter(config, self.kind, self.task.model_path, folder / "adapter")
                weights = model.state_dict()
            export.write_model(folder, model, weights, self.tokenizer, self.task.template)
            checkpoint.finish(folder, self.task.output_dir, {**self.task.made_by, **made_by})
        self.world.barrier()
