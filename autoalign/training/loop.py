"""The training loop, the same in one process, under torchrun and in a Ray Train worker."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from autoalign.config import deepspeed as deepspeed_settings
from autoalign.errors import JobFailed, StoppedEarly
from autoalign.model_folder import load_tokenizer
from autoalign.training import best, checkpoint, resuming, space, stored_run
from autoalign.training.acceleration import offload, sequence_parallel
from autoalign.training.bad_steps import BadStepGuard
from autoalign.training.batches import Batch
from autoalign.training.checkpoint import Progress
from autoalign.training.engines.base import Engine
from autoalign.training.examples import Examples, Layout
from autoalign.training.light_imports import leave_triton_out
from autoalign.training.metrics import MetricsWriter
from autoalign.training.model import is_padding_free, load_model, shares_prompts
from autoalign.training.objective import StepWork, objective_of
from autoalign.training.order import data_order, evaluation_parts, total_steps
from autoalign.training.reporting import Reporter, counted
from autoalign.training.saving import Saver
from autoalign.training.schedule import learning_rate
from autoalign.training.task import Tables, TrainReport, TrainTask
from autoalign.training.tensors import ShardReader
from autoalign.training.world import World


def train(task: TrainTask, tables: Tables, world: World, reporter: Reporter) -> TrainReport:
    """Train to the end, and export.

    Raises:
        StoppedEarly: a stop was asked for; a checkpoint was written first.
        JobFailed: the loss is no longer finite, or the disk is full.
    """
    leave_triton_out()
    if world.is_main:
        checkpoint.remove_unfinished(task.output_dir)
    try:
        with space.full_disk_ends_the_job(task.output_dir):
            trainer = Trainer(task, tables, world, reporter)
            try:
                return trainer.run()
            finally:
                trainer.close()
    finally:
        if world.is_main:
            checkpoint.remove_unfinished(task.output_dir)


class Trainer:
    """One job on one rank."""

    def __init__(self, task: TrainTask, tables: Tables, world: World, reporter: Reporter) -> None:
        config = task.config
        self.task, self.config = task, config
        self.world, self.reporter = world, reporter
        self.tokenizer = load_tokenizer(task.model_path, config.trust_remote_code)
        self.layout = Layout(
            is_padding_free(config, task.model_path),
            self.tokenizer.pad_token_id or 0,
            shares_prompts(config, task.model_path),
        )
        offload.require_gpu(config, world.device)
        self.objective = objective_of(task)
        self.sequence = sequence_parallel.join(config.sequence_parallel_size, world)
        self.examples, self.evaluation, self.live = self.objective.examples(
            task, tables, world, self.layout, reporter
        )
        self.order = data_order(config, self.examples, world.size, self.layout.padding_free)
        self.total = total_steps(config, self.order)
        storage = stored_run.storage_of(config)
        start = resuming.find_start(task, world, storage, self._note)
        self.engine = self._build_engine(start)
        self.saver = Saver(task, world, self.engine, self.tokenizer, self.objective.kind, storage)
        self.progress, self.best = Progress(), None
        if start is not None:
            self.progress, self.best = checkpoint.read_progress(start), checkpoint.read_best(start)
            updates = self.progress.step - self.progress.skipped_steps
            self.engine.load_state(ShardReader(start / checkpoint.STATE_FOLDER), updates)
            self._note(f"going on from {start} (step {self.progress.step} of {self.total})")
        self.guard = BadStepGuard(config, world, self.progress)
        self._answer_figures: dict[str, float] = {}

    def close(self) -> None:
        """Let what is being written be finished, however the job ended, and free what it held."""
        try:
            self.saver.close()
        finally:
            if self.live is not None:
                self.live.close()

    def run(self) -> TrainReport:
        """Every step from where the job stands to its end."""
        writer = self._writer()
        eval_loss = math.nan
        is_save_due = False
        window = _Window(self.progress)
        try:
            if self._evaluates and self._is_to_begin_with_evaluation():
                self._evaluate(writer)
            while self.progress.step < self.total:
                self._one_step(window, writer)
                step = self.progress.step
                is_save_due |= self._is_due(self.config.save_steps)
                if self._is_due(self.config.eval_steps) or (step == self.total and self._evaluates):
                    eval_loss = self._evaluate(writer)
                if self.guard.in_a_row or (self.live is not None and self.live.is_midway(step)):
                    continue  # nothing is saved, nor stopped with, before a step is good again
                if self.world.any(self.world.is_main and self.reporter.should_stop()):
                    if step < self.total:
                        raise self._stopped(self.saver.checkpoint(self.progress, self.best))
                elif is_save_due and step < self.total:
                    self.saver.checkpoint(self.progress, self.best)
                    is_save_due = False
                self._tell()
        except JobFailed:
            if not self._has_lost_its_engine_to_a_stop():
                raise
            raise self._stopped(self.saver.checkpoint(self.progress, self.best)) from None
        finally:
            if writer is not None:
                writer.close()
        self._require_a_good_step()
        loss = self.guard.loss
        told: dict[str, float | None] = {"eval_loss": None if math.isnan(eval_loss) else eval_loss}
        metrics = {"loss": loss, **told, **self._answer_figures}
        self.saver.wait()
        self._tell()
        self._export(metrics)
        problem = self.saver.finish_uploads()
        self._tell()
        return TrainReport(
            self.task.output_dir,
            self.progress.step,
            self.progress.tokens,
            self.progress.seconds,
            loss,
            metrics["eval_loss"],
            problem,
        )

    def _has_lost_its_engine_to_a_stop(self) -> bool:
        """Ctrl-C in a terminal, and many a SIGTERM, reach an engine's processes too."""
        return self.live is not None and self.world.size == 1 and self.reporter.should_stop()

    def _export(self, metrics: dict[str, float | None]) -> None:
        """The final model: the last step's, or the best checkpoint's."""
        step, name, found = self.progress.step, best.metric_name(self.config), self.best
        made_by: dict[str, Any] = {"steps": step, "metrics": metrics}
        if found is not None:
            made_by["best"] = {"step": found.step, "metric": name, "value": found.value}
            where = f"checkpoint-{found.step}" if found.step < step else "the last step"
            self._note(f"best {name}: {found.value:.4f} at {where}")
        is_loaded = self.config.load_best_model_at_end and found is not None and found.step < step
        self.saver.final(made_by, found, takes_best=is_loaded)

    def _stopped(self, saved: Path) -> StoppedEarly:
        """The end of a job that was asked to stop, once its checkpoint is there."""
        self.saver.wait()
        problem = self.saver.finish_uploads(is_stopping=True)
        missing = f"; not in storage_path: {problem}" if problem else ""
        return StoppedEarly(f"stopped at step {self.progress.step} of {self.total}; saved {saved}{missing}")

    def _one_step(self, window: _Window, writer: MetricsWriter | None) -> None:
        """One optimizer step, or one that the guard passes over."""
        step = self.progress.step
        began = time.monotonic()
        # Dropout follows from seed, step and rank, so that a resumed run repeats it.
        torch.manual_seed(dropout_seed(self.config.seed, step, self.world.rank))
        examples, parts = self._work(step)
        wanted = [example for part in parts for example in part]
        divisor = max(1.0, examples.divisor(wanted))
        lr = learning_rate(self.config, step, self.total)

        def accept(loss_sum: float, grad_norm: float) -> bool:
            (whole,) = self.world.sum(loss_sum)
            return self.guard.accepts(step + 1, whole / divisor, grad_norm)

        result = self.engine.train_step(self._batches(examples, parts), divisor, lr, accept)
        is_skipped = self.guard.problem is not None
        tokens = int(sum(examples.lengths[example] for example in wanted))
        self.progress = Progress(
            step + 1,
            self.progress.tokens + tokens,
            self.progress.supervised_tokens + examples.supervised_tokens(wanted),
            self.progress.seconds + time.monotonic() - began,
            self.progress.skipped_steps + is_skipped,
            self.guard.recent_losses,
            self.guard.recent_norms,
        )
        if is_skipped:
            self._figures()  # a loss that is not finite makes the means of this line so too
            self._note(f"step {step + 1}: {self.guard.problem}; skipped ({self.guard.in_a_row} in a row)")
        else:
            window.add(self.guard.loss)
        if (step + 1) % self.config.logging_steps == 0 or step + 1 == self.total:
            self._log(window.close(self.progress), lr, result.grad_norm, writer)

    def _work(self, step: int) -> StepWork:
        """What a step learns from."""
        if self.live is None:
            return StepWork(self.examples, self.order.step(step))
        (sources,) = self.order.step(step // self.config.steps_per_batch)
        return self.live.step(step, sources, self.engine)

    def _require_a_good_step(self) -> None:
        if self.progress.skipped_steps == self.progress.step:
            raise JobFailed(
                f"all {self.progress.step} steps were skipped ({self.guard.problem}); no model is left"
            )

    def _batches(self, examples: Examples, parts: list[list[int]]) -> Iterator[Batch]:
        """This rank's micro-batches: every replicas-th part, or its share of one; as many on every rank."""
        step = [example for part in parts for example in part]
        parts = parts + [[]] * (-len(parts) % self.sequence.replicas)
        mine = parts[self.sequence.replica :: self.sequence.replicas]
        shared = self.objective.shared(self._evaluated, examples, mine, step, self.layout, self.world)
        batches = (replace(examples.batch(part, self.layout, step), **shared) for part in mine)
        return map(self.sequence.share, batches)

    def _counted(self, batches: Iterable[Batch], parts: list[list[int]]) -> Iterator[Batch]:
        """Batches of the evaluation, showing how many of its examples were done before each."""
        whole = sum(map(len, parts))
        done = 0
        for index, batch in enumerate(batches):
            if self.world.is_main:
                self.reporter.emit(counted("evaluation", done, whole))
            yield batch
            first = index * self.sequence.replicas
            done += sum(map(len, parts[first : first + self.sequence.replicas]))

    def _evaluated(self, batch: Batch) -> float:
        return self.engine.evaluate(self.sequence.share(batch))

    def _log(self, figures: _Figures, lr: float, grad_norm: float, writer: MetricsWriter | None) -> None:
        measured = self._figures()
        if writer is None:
            return
        progress = self.progress
        row = {
            "step": progress.step,
            "epoch": round(progress.step / (self.order.steps_per_epoch * self.config.steps_per_batch), 4),
            "loss": figures.loss,
            "lr": lr,
            "grad_norm": grad_norm,
            "tokens": progress.tokens,
            "supervised_tokens": progress.supervised_tokens,
            "tokens_per_second": round(figures.tokens_per_second, 2),
            "seconds": round(progress.seconds, 3),
            **measured,
            **({} if self.live is None else self.live.figures()),
        }
        if self.config.on_bad_loss == "skip":
            row["skipped_steps"] = progress.skipped_steps
        row = {name: value for name, value in row.items() if math.isfinite(value)}
        self._write(row, writer)
        left = (self.total - progress.step) * progress.seconds / max(1, progress.step)
        self.reporter.emit(
            {"kind": "step", "total_steps": self.total, "seconds_left": left, "loss": math.nan, **row}
        )

    def _evaluate(self, writer: MetricsWriter | None) -> float:
        """Mean loss of the evaluation set, the same on every rank."""
        if self.live is not None:
            return self._evaluate_answers(writer)
        examples = self.evaluation
        assert examples is not None
        parts = evaluation_parts(self.config, examples, self.sequence.replicas, self.layout.padding_free)
        self._figures()  # those of training are logged apart
        (loss_sum,) = self.world.sum(
            sum(self.engine.evaluate(batch) for batch in self._counted(self._batches(examples, parts), parts))
        )
        loss = loss_sum / max(1.0, examples.divisor(range(len(examples.lengths))))
        named = {f"eval_{name}": value for name, value in self._figures().items()}
        self._compare_with_best({"eval_loss": loss, **named})
        if writer is not None:
            self._write({"step": self.progress.step, "eval_loss": loss, **named}, writer)
            self._note(f"step {self.progress.step}: evaluation loss {loss:.4f}")
        return loss

    def _evaluate_answers(self, writer: MetricsWriter | None) -> float:
        """Figures of answers that the policy gives now; there is no loss among them."""
        assert self.live is not None
        found = self.live.evaluate(self.progress.step, self.engine)
        self._answer_figures = {f"eval_{name}": value for name, value in found.items()}
        self._compare_with_best(self._answer_figures)
        if writer is not None:
            self._write({"step": self.progress.step, **self._answer_figures}, writer)
            shown = ", ".join(f"{name} {value:.4g}" for name, value in found.items())
            self._note(f"step {self.progress.step}: evaluation: {shown}")
        return math.nan

    @property
    def _evaluates(self) -> bool:
        return self.evaluation is not None if self.live is None else self.live.evaluates

    def _is_to_begin_with_evaluation(self) -> bool:
        return self.progress.step == 0 and getattr(self.config, "eval_on_start", False)

    def _compare_with_best(self, figures: dict[str, float]) -> None:
        step = self.progress.step
        is_saved = self._is_due(self.config.save_steps) or step == self.total
        if is_saved and not self.guard.in_a_row:
            self.best = best.better_of(self.config, self.best, step, figures)

    def _figures(self) -> dict[str, float]:
        """What the objective measured since it was last asked, as means over all ranks."""
        return self.objective.figures(self.engine.module, self.world)

    def _is_due(self, every: int | None) -> bool:
        return every is not None and self.progress.step % every == 0

    def _writer(self) -> MetricsWriter | None:
        if not self.world.is_main:
            return None
        title = f"{self.config.job}: {Path(self.config.model_name_or_path).name}"
        writer = MetricsWriter(self.task.output_dir, self.progress.step, title)
        self.reporter.emit({"kind": "start", "step": self.progress.step})
        return writer

    def _write(self, row: dict[str, Any], writer: MetricsWriter) -> None:
        writer.write(row)
        self.reporter.emit({"kind": "row", "row": row})

    def _note(self, text: str) -> None:
        if self.world.is_main:
            self.reporter.emit({"kind": "note", "text": text})

    def _tell(self) -> None:
        for text in self.saver.news():
            self._note(text)

    def _build_engine(self, start: Path | None) -> Engine:
        config, path = self.config, self.task.model_path
        adapter = str(start) if start is not None and config.use_lora else None
        weights = str(start) if start is not None and not config.use_lora else path
        if config.deepspeed == "none":
            from autoalign.training.engines.plain import PlainEngine

            model = load_model(config, weights, adapter, self.objective.kind)
            return PlainEngine(self.objective.module(self.task, model), config, self.world)
        return self._build_zero_engine(weights, adapter)

    def _build_zero_engine(self, weights: str, adapter: str | None) -> Engine:
        from autoalign.training.engines import zero

        zero.import_deepspeed(self.world.device)
        settings = deepspeed_settings.settings(self.config, self.world.size)
        with zero.sharded_loading(settings):
            model = load_model(self.config, weights, adapter, self.objective.kind)
            module = self.objective.module(self.task, model)  # it may load a reference, sharded too
        return zero.ZeroEngine(module, self.config, self.world, settings)


@dataclass(frozen=True)
class _Figures:
    loss: float
    tokens_per_second: float


class _Window:
    """Averages over the steps since the last logged line."""

    def __init__(self, start: Progress) -> None:
        self._start = start
        self._losses: list[float] = []

    def add(self, loss: float) -> None:
        self._losses.append(loss)

    def close(self, now: Progress) -> _Figures:
        seconds = max(now.seconds - self._start.seconds, 1e-9)
        loss = sum(self._losses) / len(self._losses) if self._losses else math.nan
        figures = _Figures(loss, (now.tokens - self._start.tokens) / seconds)
        self._start, self._losses = replace(now), []
        return figures


def dropout_seed(seed: int, step: int, rank: int) -> int:
    """A number of its own for each step and rank, in the 64 bits that PyTorch takes."""
    return ((seed * 1_000_003 + step) * 65_537 + rank) % 2**64


def use_threads(count: int | None) -> None:
    """Compute with `count` CPU threads; None leaves what the environment says."""
    if count is not None:
        torch.set_num_threads(count)
        os.environ["OMP_NUM_THREADS"] = str(count)
