"""Checkpoints evaluated while training goes on: `--eval_config X.yaml --eval_every N`.

A thread looks for new checkpoints, keeps each one's files by links (training may delete its own) until it has
its figures, and hands it to a Ray task on the job's cluster; those that come faster than they are evaluated
wait. Whatever lacks a figure when training ends is evaluated then, from where its task came to, and so is the
final model. What fails then, too, is named; its files stay for the next run of the same command.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from autoalign import manifest
from autoalign.config.evaluate import EvalConfig
from autoalign.config.train import TrainConfig
from autoalign.errors import AutoAlignError, ConfigError, JobFailed, StoppedEarly
from autoalign.evaluation import reuse
from autoalign.evaluation.layout import layout_of, settle
from autoalign.evaluation.results import read_results
from autoalign.evaluation.run import run as evaluate
from autoalign.training.checkpoint import STATE_FOLDER, find_checkpoints, step_of

Evaluate = Callable[[EvalConfig], object]

_LOOK_EVERY = 0.1  # seconds; of several checkpoints in a row, training may keep one for no longer
_KEPT = "checkpoints_to_evaluate"
_AT_ONCE, _AT_ONCE_WITH_GPUS = 1, 4  # tasks; those with GPUs wait for some that are free


@contextmanager
def evaluated(config: TrainConfig, evaluate: Evaluate = evaluate) -> Iterator[None]:
    """Around a training job; nothing happens without `eval_config`, nor in torchrun's other processes.

    Raises:
        ConfigError: the evaluation's config is wrong; found before training starts.
        JobFailed: training is done, and evaluations are missing.
        StoppedEarly: Ctrl-C or SIGTERM while what was missing at training's end was evaluated.
    """
    from autoalign.training.run import is_first_process

    if config.eval_config is None or not is_first_process():
        yield
        return
    watch = _Watch(config, evaluate)
    watch.start()
    try:
        yield
    finally:
        watch.stop()
    watch.finish()


class _Watch:
    """The thread, and what it has seen."""

    def __init__(self, config: TrainConfig, evaluate: Evaluate) -> None:
        if config.use_lora:
            raise ConfigError("'eval_every' evaluates whole checkpoints; those of LoRA hold adapters alone")
        self._config, self._evaluate = config, evaluate
        self._folder = Path(config.output_dir).expanduser()
        self._outputs = Path(self._keys("final", self._folder).output_dir).expanduser().absolute()
        self._kept = self._outputs / _KEPT / self._folder.name
        self._seen: dict[str, Path] = {}
        self._waiting: deque[str] = deque()
        self._running: dict[str, Any] = {}  # label to Ray's reference
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
        """Evaluate what lacks a figure, tell all figures, and let the files go that are not needed any more.

        Raises:
            JobFailed: figures are missing all the same.
        """
        self._keep_new()
        self._take_left_over()
        self._forget_others("final", self._folder)
        models = {**self._seen, "final": self._folder}
        missing = [label for label, model in models.items() if not self._completed(label, model)]
        self._drop_all_but([models[label] for label in missing])
        if missing:
            raise JobFailed(
                f"training is done, its model is in {self._folder}; evaluations are missing: "
                f"{', '.join(missing)}; the same command again trains nothing, and goes on with them"
            )

    def _completed(self, label: str, model: Path) -> bool:
        """Evaluate the model where it has not been, tell its figures, and whether it has them all now."""
        if not self._is_done(label):
            _say(f"{label}: evaluating")
            try:
                self._evaluate(self._keys(label, model))
            except StoppedEarly:
                raise
            except AutoAlignError as error:
                _say(f"{label}: {error}")
                return False
        self._tell(label)
        return self._is_done(label)

    def _is_done(self, label: str) -> bool:
        """Whether every benchmark has a figure."""
        file = self._results(label)
        return file.is_file() and all(each.error is None for each in read_results(file))

    def _drop_all_but(self, needed: Collection[Path]) -> None:
        for kept in self._kept.iterdir() if self._kept.is_dir() else ():
            if kept not in needed:
                shutil.rmtree(kept, ignore_errors=True)
        with suppress(OSError):  # it isn't empty, or was never made
            self._kept.rmdir()

    def _tell(self, label: str) -> None:
        told = ", ".join(f"{each.benchmark} {each.cell()}" for each in read_results(self._results(label)))
        _say(f"{label}: {told}")

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_EVERY):
            self._waiting.extend(self._keep_new())
            if self._waiting or self._running:
                with suppress(*_cluster_errors()):  # the cluster goes down, and `finish` evaluates the rest
                    self._let_go()
                    self._hand_on()

    def _let_go(self) -> None:
        """Of tasks that are done, the checkpoint's files are not needed any more."""
        import ray

        for label, task in list(self._running.items()):
            done, _ = ray.wait([task], timeout=0)
            if done:
                del self._running[label]
                self._task_ended(label)

    def _task_ended(self, label: str) -> None:
        if self._results(label).is_file():
            self._tell(label)
        if self._is_done(label):
            shutil.rmtree(self._seen[label], ignore_errors=True)
        else:
            _say(f"{label}: what is missing is tried again when training has ended")

    def _hand_on(self) -> None:
        """Start a task for the next one, where training runs on Ray; it takes GPUs that training leaves."""
        import ray

        if not (self._waiting and ray.is_initialized()):
            return
        has_gpus = bool(ray.cluster_resources().get("GPU"))
        if len(self._running) < (_AT_ONCE_WITH_GPUS if has_gpus else _AT_ONCE):
            label = self._waiting[0]
            config = self._keys(label, self._seen[label])
            task: Any = ray.remote(self._evaluate)
            gpus = config.per_model_gpu if has_gpus else 0
            self._running[label] = task.options(num_cpus=0, num_gpus=gpus, max_retries=0).remote(config)
            self._waiting.popleft()

    def _keep_new(self) -> list[str]:
        """Checkpoints that are due and have not been seen."""
        new = []
        for label, checkpoint in self._due(self._folder).items():
            if label not in self._seen:
                kept = self._kept / checkpoint.name
                try:
                    _link(checkpoint, kept)
                except FileNotFoundError:  # training has just deleted it
                    continue
                self._seen[label] = kept
                self._forget_others(label, kept)
                new.append(label)
        return new

    def _take_left_over(self) -> None:
        """Of the same training, what an earlier run of the command kept for want of its figures."""
        ours = manifest.read(self._folder).get("fingerprint")
        for label, kept in self._due(self._kept).items():
            if label not in self._seen and ours and manifest.read(kept).get("fingerprint") == ours:
                self._seen[label] = kept
                self._forget_others(label, kept)

    def _due(self, folder: Path) -> dict[str, Path]:
        """The checkpoints in a folder that are to be evaluated, by label."""
        every = self._config.eval_every or 1
        return {
            f"step-{step_of(each)}": each for each in find_checkpoints(folder) if step_of(each) % every == 0
        }

    def _forget_others(self, label: str, model: Path) -> None:
        """Of an earlier training in the same folder, results under the same name are thrown away."""
        config = self._keys(label, model)
        layout = layout_of(config)
        if reuse.unlike(layout, config, model):
            settle(layout, config.model_copy(update={"reuse": False, "force": True}))

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


def _cluster_errors() -> tuple[type[Exception], ...]:
    from ray.exceptions import RayError

    return RayError, ConnectionError, RuntimeError


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
