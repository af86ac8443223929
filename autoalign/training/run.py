"""A training job from its config to its files: `run` is what every entry point calls."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoalign import chat, formats, manifest, model_folder
from autoalign.config.sft import SFTConfig
from autoalign.config.train import TrainConfig
from autoalign.training import output, space
from autoalign.training.loop import (
    Tables,
    TrainReport,
    TrainTask,
    data_order,
    total_steps,
    train,
    use_threads,
)
from autoalign.training.reporting import Display, LocalReporter, stop_on_signals
from autoalign.training.tokens import TokenCounts, TokenizeOptions, TokenTable, default_cache_dir, tokenize


@dataclass(frozen=True)
class _Data:
    table: TokenTable
    digest: str
    paths: tuple[str, ...]


def run(config: SFTConfig) -> TrainReport:
    """Fine-tune, and leave a model folder in `config.output_dir`.

    Raises:
        InputError: something the user gave is wrong; nothing was started.
        JobFailed: training failed; checkpoints written so far stand.
        StoppedEarly: SIGTERM or Ctrl-C; a checkpoint was written first.
    """
    display = Display("sft")
    config = _with_absolute_paths(config)
    try:
        model_path = str(model_folder.find(config.model_name_or_path, fetch=True))
        output.refuse_foreign(config)
        with tempfile.TemporaryDirectory(prefix="autoalign-") as scratch:
            bad_rows = Path(scratch) / "errors.jsonl"
            task, tables = _prepare(config, model_path, bad_rows, display)
            report = _claim(task, bad_rows)
        if report is not None:
            _say(display, f"{config.output_dir} holds this job's finished model; nothing to do")
            return report
        with space.full_disk_ends_the_job(task.output_dir):
            return _start(task, tables, display)
    finally:
        display.close()


def _claim(task: TrainTask, bad_rows: Path) -> TrainReport | None:
    """Check what can be checked, then write the job's first files; a finished job's report instead."""
    config, mine = task.config, task.made_by["fingerprint"]
    if os.environ.get("RANK", "0") != "0":
        # torchrun: rank 0 claims the folder for all, and its claim is nothing to refuse.
        return output.finished(config.model_copy(update={"resume": "auto"}), mine)
    report = output.finished(config, mine)
    if report is None:
        stale = output.stale_paths(task.output_dir) if config.overwrite_output_dir else []
        space.require(config, task.model_path, reclaimed=sum(map(space.size_of, stale)))
        output.claim(config, mine)
        output.keep_bad_rows(task.output_dir, bad_rows)
    return report


def _start(task: TrainTask, tables: Tables, display: Display) -> TrainReport:
    if task.config.launcher == "local":
        return _run_here(task, tables, display)
    from autoalign.training import ray_train

    return ray_train.run(task, tables, display)


def _with_absolute_paths(config: SFTConfig) -> SFTConfig:
    """Ray's workers have another working directory."""
    paths = {"output_dir": config.output_dir}
    if config.deepspeed.endswith(".json"):
        paths["deepspeed"] = config.deepspeed
    if config.resume not in ("auto", "never"):
        paths["resume"] = config.resume
    return config.model_copy(
        update={key: str(Path(path).expanduser().resolve()) for key, path in paths.items()}
    )


def _prepare(
    config: TrainConfig, model_path: str, bad_rows: Path, display: Display
) -> tuple[TrainTask, Tables]:
    tokenizer = model_folder.load_tokenizer(model_path, config.trust_remote_code)
    template = chat.get_template(config.conv_template_name, tokenizer)
    reader = _Reader(tokenizer, template, bad_rows, display)
    data = reader.load(config, config.data_path)
    evaluation = None
    if config.eval_data_path:
        evaluation = reader.load(_for_evaluation(config), config.eval_data_path)
    parent = manifest.model_digest(Path(model_path))
    fingerprint = output.fingerprint(config, data=data.digest, template=template.digest, model=parent)
    made_by = {
        "job": "sft",
        "config": config.model_dump(mode="json"),
        "fingerprint": fingerprint,
        "data": {"paths": data.paths, "digest": data.digest, **data.table.counts._asdict()},
        "template": {"name": template.name, "digest": template.digest},
        "parent": {"name": config.model_name_or_path, "digest": parent},
    }
    resume_from = None if config.resume in ("auto", "never") else config.resume
    task = TrainTask(config, model_path, template, made_by, resume_from)
    return task, Tables(data.table, evaluation.table if evaluation else None)


def _for_evaluation(config: TrainConfig) -> TrainConfig:
    """The same config without `max_train_samples`, which is not for the evaluation set."""
    return config.model_copy(update={"max_train_samples": None})


@dataclass(frozen=True)
class _Reader:
    """Reads and tokenises files, and says what came of it."""

    tokenizer: Any
    template: chat.Template
    bad_rows: Path
    display: Display

    def load(self, config: TrainConfig, paths: list[str]) -> _Data:
        """The rows of `paths`; quarantined ones are added to `bad_rows`."""
        began = time.monotonic()
        dataset = formats.load(
            paths,
            kind="sft",
            format=config.format,
            on_bad_row=config.on_bad_row,
            errors_path=self.bad_rows,
            seed=config.seed,
        )
        conversations = dataset.conversations[: config.max_train_samples]
        options = TokenizeOptions(
            self.template,
            config.model_max_length,
            config.overlong,
            Path(config.cache_dir).expanduser() if config.cache_dir else default_cache_dir(),
        )
        digest = f"{dataset.digest}:{config.format}:{config.seed}:{len(conversations)}"
        table = tokenize(conversations, self.tokenizer, options, digest)
        seconds = time.monotonic() - began
        _say(self.display, _describe(paths, table.counts, dataset.bad_rows, config, seconds))
        return _Data(table, digest, dataset.paths)


def _describe(paths: list[str], counts: TokenCounts, bad: int, config: TrainConfig, seconds: float) -> str:
    names = ", ".join(paths)
    parts = [f"{names}: {counts.rows} rows, {counts.tokens} tokens, {counts.supervised_tokens} trained on"]
    if counts.truncated:
        parts.append(f"{counts.truncated} rows truncated to model_max_length {config.model_max_length}")
    if counts.dropped:
        parts.append(f"{counts.dropped} rows over model_max_length {config.model_max_length} dropped")
    if bad:
        parts.append(f"{bad} bad rows in {Path(config.output_dir) / 'errors.jsonl'}")
    return f"{'; '.join(parts)} ({seconds:.1f} s)"


def _run_here(task: TrainTask, tables: Tables, display: Display) -> TrainReport:
    """Train in this process; under torchrun, as one of its ranks."""
    import torch

    from autoalign.training import world

    use_gpu = torch.cuda.is_available() if task.config.use_gpu is None else task.config.use_gpu
    use_threads(task.config.cpus_per_worker)
    place = world.join_from_environment(task.config.deepspeed != "none", use_gpu)
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
    """Say what is about to run: steps, batch, engine."""
    config = task.config
    order = data_order(config, tables.train, workers)
    unit = "bins" if config.packing else "rows"
    kind = f"LoRA rank {config.lora_rank}" if config.use_lora else "all weights"
    _say(
        display,
        f"{total_steps(config, order)} steps of {order.batch_size} {unit}, {order.steps_per_epoch} an epoch; "
        f"{kind}, {'bf16' if config.bf16 else 'fp32'}, deepspeed {config.deepspeed}, {workers} worker(s)",
    )


def _say(display: Display, text: str) -> None:
    display.show({"kind": "note", "text": text})
