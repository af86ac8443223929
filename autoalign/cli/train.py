"""`autoalign-cli sft`, `dpo`, `rm` and `grpo`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from autoalign.cli.flags import config_from_args
from autoalign.config.dpo import DPOConfig
from autoalign.config.grpo import GRPOConfig
from autoalign.config.rm import RMConfig
from autoalign.config.sft import SFTConfig
from autoalign.config.train import TrainConfig

if TYPE_CHECKING:
    from autoalign.training.task import TrainReport


def sft(args: Sequence[str]) -> int:
    """Fine-tune a model on conversations."""
    return _train(config_from_args(SFTConfig, args, "autoalign-cli sft"))


def dpo(args: Sequence[str]) -> int:
    """Train a model on preference pairs."""
    return _train(config_from_args(DPOConfig, args, "autoalign-cli dpo"))


def rm(args: Sequence[str]) -> int:
    """Train a reward model on preference pairs."""
    return _train(config_from_args(RMConfig, args, "autoalign-cli rm"))


def grpo(args: Sequence[str]) -> int:
    """Train a model on its own answers, by rewards that can be checked."""
    return _train(config_from_args(GRPOConfig, args, "autoalign-cli grpo"))


def _train(config: TrainConfig) -> int:
    from autoalign.reinforcement.run import run as run_grpo
    from autoalign.training.run import is_first_process
    from autoalign.training.run import run as run_training

    with _evaluated(config):
        report = run_grpo(config) if isinstance(config, GRPOConfig) else run_training(config)
    if is_first_process():
        print(summary(report, config))
    return 0


def _evaluated(config: TrainConfig) -> AbstractContextManager[None]:
    """Checkpoints are evaluated beside training where the config asks for it."""
    if config.eval_config is None:
        return nullcontext()
    from autoalign.evaluation.checkpoints import evaluated

    return evaluated(config)


def summary(report: TrainReport, config: TrainConfig) -> str:
    """What came out, where it is, and what to do next."""
    folder = report.output_dir
    minutes, seconds = divmod(round(report.seconds), 60)
    lines = [
        f"done: {report.steps} steps, {report.tokens} tokens in {minutes} min {seconds} s "
        f"({report.tokens / max(report.seconds, 1e-9):.0f} tok/s), loss {report.loss:.4f}"
        + (f", evaluation loss {report.eval_loss:.4f}" if report.eval_loss is not None else ""),
        f"  model    {folder}",
        f"  metrics  {folder / 'metrics.jsonl'}",
    ]
    pictures = [folder / name for name in ("loss.png", "rewards.png")]
    lines += [f"  picture  {picture}" for picture in pictures if picture.is_file()]
    if isinstance(config, RMConfig):
        lines.append(f"next: autoalign-cli score --model-path {folder} --data-path FILE --output-file FILE")
    else:
        lines.append(f"next: autoalign-cli chat --model-path {folder}")
    return "\n".join(lines)
