"""Checkpoints evaluated while training goes on: `--eval_config X.yaml --eval_every N`.

A thread looks for new checkpoints, keeps each one's files by links (training may delete its own), and hands
it to a Ray task on the job's cluster. Whatever has no figure when training ends is evaluated then, from where
its task came to, and so is the final model.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autoalign.config.evaluate import EvalConfig
from autoalign.config.train import TrainConfig
from autoalign.errors import AutoAlignError, ConfigError
from autoalign.evaluation.results import read_results
from autoalign.evaluation.run import run as evaluate
from autoalign.training.checkpoint import STATE_FOLDER, find_checkpoints, step_of

_LOOK_EVERY = 0.1  # seconds; of several checkpoints in a row, training may keep one for no longer
_KEPT = "checkpoints_to_evaluate"


@contextmanager
def evaluated(config: TrainConfig) -> Iterator[None]:
    """Around a training job; nothing happens without `eval_config`.

    Raises:
        ConfigError: the evaluation's config is wrong; found before training starts.
    """
    if config.eval_config is None:
        yield
        return
    watch = _Watch(config)
    watch.start()
    try:
        yield
    finally:
        watch.stop()
    watch.finish()


class _Watch:
    """The thread, and what it has seen."""

    def __init__(self, config: TrainConfig) -> None:
        if config.use_lora:
            raise ConfigError("'eval_every' evaluates whole checkpoints; those of LoRA hold adapters alone")
        self._config = config
        self._folder = Path(config.output_dir).expanduser()
        self._outputs = Path(self._keys("final", self._folder).output_dir).expanduser().absolute()
        self._seen: dict[str, Path] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="checkpoint evaluation", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; tasks that are at work go down with the job's cluster."""
        self._over.set()
        self._thread.join()

    def finish(self) -> None:
        """Evaluate what has no figure yet, tell all figures, and let the kept files go."""
        self._keep_new()
        for label, model in {**self._seen, "final": self._folder}.items():
            if not self._results(label).is_file():
                _say(f"{label}: evaluating")
                try:
                    evaluate(self._keys(label, model))
                except AutoAlignError as error:
                    _say(f"{label}: {error}")
                    continue
            told = ", ".join(f"{each.benchmark} {each.cell()}" for each in read_results(self._results(label)))
            _say(f"{label}: {told}")
        shutil.rmtree(self._outputs / _KEPT / self._folder.name, ignore_errors=True)

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_EVERY):
            for label in self._keep_new():
                _hand_to_ray(self._keys(label, self._seen[label]))

    def _keep_new(self) -> list[str]:
        """Checkpoints that are due and have not been seen."""
        every, new = self._config.eval_every or 1, []
        for checkpoint in find_checkpoints(self._folder):
            label = f"step-{step_of(checkpoint)}"
            if step_of(checkpoint) % every == 0 and label not in self._seen:
                kept = self._outputs / _KEPT / self._folder.name / checkpoint.name
                try:
                    _link(checkpoint, kept)
                except FileNotFoundError:  # training has just deleted it
                    continue
                self._seen[label] = kept
                new.append(label)
        return new

    def _keys(self, label: str, model: Path) -> EvalConfig:
        name = f"{self._folder.name}-{label}"
        flags: dict[str, Any] = {
            "model_path": str(model.absolute()),
            "model_name": name,
            "model_id": name,
            "reuse": True,
        }
        config = EvalConfig.from_sources(self._config.eval_config, flags)
        places: dict[str, str | Path] = {"output_dir": config.output_dir, "config_dir": config.config_dir}
        places["data_root"] = config.data_folder
        # A Ray task may have another working directory.
        absolute = {key: str(Path(place).expanduser().absolute()) for key, place in places.items()}
        return config.model_copy(update=absolute)

    def _results(self, label: str) -> Path:
        return self._outputs / f"{self._folder.name}-{label}" / "results.json"


def _hand_to_ray(config: EvalConfig) -> None:
    """A task of its own, where training runs on Ray; it takes GPUs that training leaves."""
    import ray
    from ray.exceptions import RayError

    if not ray.is_initialized():
        return
    task: Any = ray.remote(evaluate)
    try:
        gpus = config.per_model_gpu if ray.cluster_resources().get("GPU") else 0
        task.options(num_cpus=0, num_gpus=gpus, max_retries=0).remote(config)
    except (RayError, ConnectionError, RuntimeError):
        return  # the cluster goes down, and `finish` evaluates it


def _link(checkpoint: Path, kept: Path) -> None:
    """The model's files, as links where the file system is the same; whole or absent."""
    shutil.rmtree(kept, ignore_errors=True)
    temporary = kept.with_name(f".{kept.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for file in checkpoint.iterdir():
        if file.name != STATE_FOLDER and file.is_file():
            try:
                os.link(file, temporary / file.name)
            except OSError:
                shutil.copyfile(file, temporary / file.name)
    temporary.rename(kept)


def _say(text: str) -> None:
    print(f"eval: {text}", file=sys.stderr, flush=True)
