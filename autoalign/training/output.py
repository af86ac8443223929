"""Whose folder is it? A run goes on in its own output_dir, and never in another run's."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from autoalign import manifest
from autoalign.atomic_files import replacing
from autoalign.config.train import TrainConfig
from autoalign.errors import ConfigError
from autoalign.training import checkpoint, space
from autoalign.training.task import TrainReport

RUN_NAME = "run.json"
_OURS = (
    RUN_NAME,
    "metrics.jsonl",
    "loss.png",
    "rewards.png",
    "errors.jsonl",
    "error.log",
    "tensorboard",
    "trackers.json",
    "wandb",
    "mlflow.db",
    "mlartifacts",
    ".ray",
    "adapter",
    "stacks",
    "completions",
)

# What decides the weights. Workers, micro-batches and accumulation may change as long as
# the global batch stays.
_DECISIVE = (
    "format",
    "max_train_samples",
    "model_max_length",
    "overlong",
    "num_train_epochs",
    "max_steps",
    "learning_rate",
    "lr_scheduler_type",
    "warmup_ratio",
    "warmup_steps",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "max_grad_norm",
    "seed",
    "packing",
    "group_by_length",
    "bf16",
    "use_lora",
    "lora_rank",
    "lora_alpha",
    "lora_dropout",
    "lora_target_modules",
    "load_in_4bit",
    "load_in_8bit",
    "loss_type",
    "loss_weights",
    "beta",
    "label_smoothing",
    "rpo_alpha",
    "ld_alpha",
    "discopop_tau",
    "simpo_gamma",
    "sso_alpha",
    "cpo_alpha",
    "nll_average",
    "reward_shift",
    "desirable_weight",
    "undesirable_weight",
    "center_rewards_coefficient",
    "reward",
    "reward_weights",
    "reward_options",
    "num_generations",
    "max_completion_length",
    "temperature",
    "system_message",
    "scale_rewards",
    "epsilon",
    "epsilon_high",
    "importance_sampling_level",
    "num_iterations",
    "mask_truncated_completions",
    "importance_sampling_cap",
    "metric_for_best_model",
    "greater_is_better",
    "load_best_model_at_end",
)
# Runs that were begun before these were written down are compared without them.
_LATER = ("reference_digest", "evaluation_digest", "sso_alpha")


def worker_count(config: TrainConfig) -> int:
    """Ray's workers at the most, or torchrun's processes."""
    return config.max_workers if config.launcher == "ray" else int(os.environ.get("WORLD_SIZE", "1"))


def fingerprint(config: TrainConfig, **digests: str | None) -> dict[str, Any]:
    """Everything that decides the final weights, by name; what the job has not got counts as None."""
    rows = config.per_device_train_batch_size * config.gradient_accumulation_steps
    values = {key: getattr(config, key) for key in _DECISIVE if hasattr(config, key)}
    return {
        **values,
        "global_batch_size": rows * worker_count(config) // config.sequence_parallel_size,
        **{f"{name}_digest": value for name, value in digests.items()},
    }


def refuse_foreign(config: TrainConfig) -> None:
    """Refuse a folder that holds something else than a run of ours, before any work.

    Raises:
        ConfigError: a file is in the way, the folder can't be written, or holds other things.
    """
    folder = Path(config.output_dir)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"output_dir {folder} is a file; give a folder")
    if config.resume not in ("auto", "never"):
        _require_checkpoint(Path(config.resume))
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if names and RUN_NAME not in names and set(names) - set(_OURS):
        shown = ", ".join(names[:3])
        raise ConfigError(
            f"output_dir {folder} holds other things ({shown}{', ...' if len(names) > 3 else ''}) and no run "
            "of AutoAlign; give a new or empty folder"
        )
    above = space.nearest_folder(folder)
    if not above.is_dir():
        raise ConfigError(f"output_dir {folder} can't be made: {above} is a file")
    if not os.access(above, os.W_OK | os.X_OK):
        raise ConfigError(f"output_dir {folder}: {above} can't be written; give another --output_dir")


def _require_checkpoint(path: Path) -> None:
    if not (path / checkpoint.STATE_FOLDER / "state.json").is_file():
        raise ConfigError(
            f"'resume': {path} is no checkpoint (it holds no {checkpoint.STATE_FOLDER}/state.json); "
            "give auto, never, or the path of a checkpoint-STEP folder"
        )
    damaged = manifest.damaged_files(path)
    if damaged:
        raise ConfigError(f"'resume': {path} is damaged: {', '.join(damaged[:3])}")


def finished(config: TrainConfig, mine: dict[str, Any]) -> TrainReport | None:
    """The report of a finished run with the same fingerprint; nothing is written.

    Raises:
        ConfigError: the folder, or the checkpoint to go on from, is of another run; the
            message shows the differences.
    """
    folder = Path(config.output_dir)
    if config.resume not in ("auto", "never"):
        compare(manifest.read(Path(config.resume)).get("fingerprint", {}), mine, config.resume)
    before = _read_run(folder)
    if not before or config.overwrite_output_dir:
        return None
    if config.resume == "never":
        raise ConfigError(
            f"output_dir {folder} holds a run already, and resume is never; give --resume auto to go "
            "on with it, --overwrite_output_dir to delete it, or another --output_dir"
        )
    compare(before["fingerprint"], mine, str(folder))
    if before.get("report"):
        return TrainReport(**{**before["report"], "output_dir": folder})
    return None


def claim(config: TrainConfig, mine: dict[str, Any], there: Mapping[str, Any] | None = None) -> str | None:
    """Make `output_dir` this run's: the first thing that a job writes.

    Args:
        there: the `run.json` in storage_path, which stands for one that is not here.

    Returns:
        When this run first went on from the checkpoint that `resume` names; None: it names none.

    Raises:
        ConfigError: the folder can't be made.
    """
    folder = Path(config.output_dir)
    if config.overwrite_output_dir:
        for path in stale_paths(folder):
            _delete(path)
    content = {"fingerprint": mine, "config": config.model_dump(mode="json")}
    resumed, began = (_read_run(folder) or there or {}).get("resumed"), None
    if config.resume not in ("auto", "never"):
        if not resumed or resumed["path"] != config.resume:
            resumed = {"path": config.resume, "began": manifest.now()}
        began = resumed["began"]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        manifest.write_json(folder / RUN_NAME, {**content, "resumed": resumed} if resumed else content)
    except OSError as error:
        raise ConfigError(f"output_dir {folder} can't be written: {error.strerror}") from None
    return began


def _read_run(folder: Path) -> dict[str, Any]:
    """A folder's `run.json`; empty where there is none."""
    path = folder / RUN_NAME
    if not path.is_file():
        return {}
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def release(folder: Path, was_there: bool) -> None:
    """Take back a claim: the job was refused after it, and nothing but the claim was written."""
    found = list(folder.iterdir())
    if not {path.name for path in found} <= {RUN_NAME, "errors.jsonl", ".ray"}:
        return
    for path in found:
        _delete(path)
    if not was_there:
        folder.rmdir()


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def keep_bad_rows(folder: Path, bad_rows: Path) -> None:
    """Put the quarantined rows, if there are any, into `folder`/errors.jsonl."""
    if bad_rows.is_file():
        with replacing(folder / "errors.jsonl") as temporary:
            shutil.copyfile(bad_rows, temporary)


def mark_done(folder: Path, report: TrainReport) -> None:
    """Note in run.json that the job is done, with its figures."""
    content = _read_run(folder)
    figures = {**asdict(report), "output_dir": str(report.output_dir)}
    del figures["storage_problem"]
    manifest.write_json(folder / RUN_NAME, {**content, "report": figures})


def compare(before: dict[str, Any], now: dict[str, Any], place: str, flag: str = "--output_dir") -> None:
    """Refuse another job's run.

    Args:
        before, now: fingerprints.
        flag: what names the place.

    Raises:
        ConfigError: they differ; the message shows how.
    """
    known = [key for key in now if key in before or key not in _LATER]
    keys = [key for key in known if before.get(key) != now[key]]
    if not keys:
        return
    lines = "\n".join(f"  {key}: was {before.get(key)!r}, is {now[key]!r}" for key in keys)
    raise ConfigError(
        f"{place} holds another run:\n{lines}\n"
        f"give another {flag}, or --overwrite_output_dir to delete that run"
    )


def stale_paths(folder: Path) -> list[Path]:
    """What a run of ours wrote in `folder`, and nothing else."""
    if not (folder / RUN_NAME).is_file():
        return []
    written = {*manifest.read(folder).get("files", {}), *_OURS, manifest.MANIFEST_NAME}
    found = [folder / name for name in sorted(written) if "/" not in name]
    found += [*folder.glob("checkpoint-*"), *folder.glob(".*.tmp")]
    return [path for path in found if path.exists()]
