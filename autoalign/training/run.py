"""A training job from its config to its files: `run` is what every entry point calls."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from autoalign import model_folder
from autoalign.config import deepspeed
from autoalign.config.grpo import GRPOConfig
from autoalign.config.train import TrainConfig
from autoalign.errors import ConfigError, InputError, ResourcesMissing
from autoalign.training import output, space, stored_run, tracking
from autoalign.training.examples import Pairs, Rows
from autoalign.training.loop import train, use_threads
from autoalign.training.model import is_padding_free, padding_note
from autoalign.training.order import data_order, total_steps
from autoalign.training.prepare import prepare
from autoalign.training.reporting import Display, LocalReporter, stop_on_signals
from autoalign.training.task import Tables, TrainReport, TrainTask

Prepare = Callable[[TrainConfig, str, Path, Display], tuple[TrainTask, Tables]]
"""As `prepare.prepare`: a config, the model's folder, a file for bad rows, and where to say things."""


def run(config: TrainConfig, prepare: Prepare = prepare) -> TrainReport:
    """Train (the config's class says how), and leave a model folder in `config.output_dir`.

    Args:
        prepare: reads the data, and makes the task of them.

    Raises:
        InputError: something the user gave is wrong; nothing was started.
        JobFailed: training failed; checkpoints written so far stand.
        StoppedEarly: SIGTERM or Ctrl-C; a checkpoint was written first.
    """
    display = Display(config.job, quiet=not is_first_process())
    config = _with_absolute_paths(config)
    try:
        tracking.require(config)
        model_path = str(model_folder.find(config.model_name_or_path, fetch=True))
        output.refuse_foreign(config)
        _check_deepspeed(config)
        was_there = Path(config.output_dir).is_dir()
        with tempfile.TemporaryDirectory(prefix="autoalign-") as scratch:
            bad_rows = Path(scratch) / "errors.jsonl"
            task, tables = prepare(config, model_path, bad_rows, display)
            claimed = _claim(task, bad_rows)
        if isinstance(claimed, TrainReport):
            display.note(f"{config.output_dir} holds this job's finished model; nothing to do")
            return claimed
        storage = stored_run.storage_of(config) if is_first_process() else None
        try:
            with space.full_disk_ends_the_job(task.output_dir), _tracked(config, display):
                report = _start(claimed, tables, display)
        except (InputError, ResourcesMissing):
            if is_first_process():
                output.release(task.output_dir, was_there)
            if storage is not None:
                stored_run.release(storage)
            raise
        if storage is not None:
            stored_run.mark_done(storage, report)
        return report
    finally:
        display.close()


def _check_deepspeed(config: TrainConfig) -> None:
    """Refuse a wrong DeepSpeed file now, not when the workers have started."""
    if config.deepspeed != "none":
        for workers in range(min(config.min_workers, most := output.worker_count(config)), most + 1):
            deepspeed.settings(config, workers)


def _claim(task: TrainTask, bad_rows: Path) -> TrainTask | TrainReport:
    """Check what can be checked, then write the job's first files; of a finished job, give its report."""
    config, mine = task.config, task.made_by["fingerprint"]
    if not is_first_process():
        # Rank 0 claims the folder for all, and its claim is nothing to refuse.
        return output.finished(config.model_copy(update={"resume": "auto"}), mine) or task
    report, storage = output.finished(config, mine), stored_run.storage_of(config)
    there: dict[str, Any] = {}
    if storage is not None:
        there = stored_run.read(config, mine, storage)
        if report is None:
            report = stored_run.finished(config, there, storage)
        else:
            problem = stored_run.copy_missing(config, storage)
            stored_run.mark_done(storage, replace(report, storage_problem=problem))
    if report is not None:
        return report
    stale = output.stale_paths(task.output_dir) if config.overwrite_output_dir else []
    space.require(config, task.model_path, reclaimed=sum(map(space.size_of, stale)))
    was_there = task.output_dir.is_dir()
    began = output.claim(config, mine, there)
    try:
        if storage is not None:
            stored_run.claim(config, storage)
    except InputError:
        output.release(task.output_dir, was_there)
        raise
    output.keep_bad_rows(task.output_dir, bad_rows)
    return replace(task, began=began)


def is_first_process() -> bool:
    """torchrun starts `run` on every rank."""
    return os.environ.get("RANK", "0") == "0"


def _tracked(config: TrainConfig, display: Display) -> AbstractContextManager[None]:
    return tracking.tracked(config, display) if is_first_process() else nullcontext()


def _start(task: TrainTask, tables: Tables, display: Display) -> TrainReport:
    if task.config.launcher == "local":
        return _run_here(task, tables, display)
    from autoalign.training import ray_train

    return ray_train.run(task, tables, display)


def _with_absolute_paths(config: TrainConfig) -> TrainConfig:
    """Ray's workers have another working directory."""
    paths = {"output_dir": config.output_dir}
    if config.storage_path is not None and "://" not in config.storage_path:
        paths["storage_path"] = config.storage_path
    if config.deepspeed.endswith(".json"):
        paths["deepspeed"] = config.deepspeed
    if config.resume not in ("auto", "never"):
        paths["resume"] = config.resume
    return config.model_copy(
        update={key: str(Path(path).expanduser().resolve()) for key, path in paths.items()}
    )


def _run_here(task: TrainTask, tables: Tables, display: Display) -> TrainReport:
    """Train in this process; under torchrun, as one of its ranks."""
    import torch

    from autoalign.training import world

    use_gpu = torch.cuda.is_available() if task.config.use_gpu is None else task.config.use_gpu
    if use_gpu and not torch.cuda.is_available():
        raise ConfigError("'use_gpu' is true, but PyTorch finds no GPU here; leave it out to use the CPU")
    use_threads(task.config.cpus_per_worker)
    place = world.join_from_environment(task.config.deepspeed != "none", use_gpu, task.config.hang_timeout)
    announce(task, tables, place.size, display)
    reporter = LocalReporter(display)
    try:
        with stop_on_signals(reporter.request_stop):
            report = train(task, tables, place, reporter)
    finally:
        world.leave()
    if place.is_main:
        output.mark_done(task.output_dir, report)
    return report


def announce(task: TrainTask, tables: Tables, workers: int, display: Display) -> None:
    """Say what is about to run: steps, batch, engine, and padding that the model asks for."""
    config = task.config
    pairs, padding_free = config.learns_from_pairs, is_padding_free(config, task.model_path)
    order = data_order(config, Pairs(tables.train) if pairs else Rows(tables.train), workers, padding_free)
    answered = isinstance(config, GRPOConfig)
    unit = "pairs" if pairs else "bins" if config.packing else "prompts" if answered else "rows"
    kind = f"LoRA rank {config.lora_rank}" if config.use_lora else "all weights"
    display.note(
        f"{total_steps(config, order)} steps of {order.batch_size} {unit}, {order.steps_per_epoch} an epoch; "
        f"{kind}, {'bf16' if config.bf16 else 'fp32'}, deepspeed {config.deepspeed}, {workers} worker(s)",
    )
    if note := padding_note(config, task.model_path):
        display.note(note)
