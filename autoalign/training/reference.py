"""The reference model's log-probs: worked out once and cached, or a frozen copy kept in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist

import autoalign
from autoalign import manifest, model_folder
from autoalign.atomic_files import replacing
from autoalign.cache_folder import default_cache_dir
from autoalign.config.acceleration import is_quantized
from autoalign.config.dpo import DPOConfig
from autoalign.config.train import TrainConfig
from autoalign.errors import ConfigError, StoppedEarly
from autoalign.kernels import library
from autoalign.losses import preference
from autoalign.training.batches import Batch
from autoalign.training.examples import Layout, Pairs
from autoalign.training.model import attention_kernel, is_padding_free, load_model, shares_prompts
from autoalign.training.reporting import Reporter, counted
from autoalign.training.task import TrainTask
from autoalign.training.world import World

_ROWS_AT_ONCE = 16
_COMPUTED_BY = (
    "kernels/kernels.c",
    "kernels/library.py",
    "kernels/ops.py",
    "losses/cross_entropy.py",
    "losses/token_logps.py",
    "training/acceleration/attention_choice.py",
    "training/acceleration/flex.py",
    "training/acceleration/quantization.py",
    "training/acceleration/varlen.py",
    "training/attention.py",
    "training/batches.py",
    "training/blocked_attention.py",
    "training/lean_modules.py",
    "training/padding.py",
    "training/reference.py",
    "training/singles.py",
    "training/supervised.py",
)
"""Code that the log-probs' last digits depend on; in bfloat16 another kernel shifts a sum by 0.2."""


def is_needed(config: TrainConfig) -> bool:
    """Whether the job's losses compare with a reference."""
    assert isinstance(config, DPOConfig)
    return preference.build(config.loss_type).needs_reference


def is_precomputed(config: TrainConfig) -> bool:
    """Whether the reference's log-probs are worked out before training."""
    assert isinstance(config, DPOConfig)
    # LD-DPO weighs tokens, of which the cache keeps the sums alone.
    return is_needed(config) and config.precompute_ref_log_probs and config.ld_alpha == 1.0


def is_kept(config: TrainConfig) -> bool:
    """Whether a frozen copy stays in memory: an adapter is its own reference when it is switched off."""
    assert isinstance(config, DPOConfig)
    own = config.use_lora and config.ref_model is None
    return is_needed(config) and not is_precomputed(config) and not own


def load(task: TrainTask) -> Any:
    """The reference model, in evaluation mode.

    Raises:
        ConfigError: batches laid out for the policy are not what this model can take.
    """
    config, other = task.config, str(_folder(task))
    if is_padding_free(config, task.model_path) != is_padding_free(config, other):
        raise ConfigError(
            f"'ref_model': of {task.model_path} and {other} one needs padded rows, and the other lays them "
            "end to end: set padding_free to false for both"
        )
    plain = config.model_copy(update={"use_lora": False, "gradient_checkpointing": False})
    return load_model(plain, other).eval()


def with_logps(
    task: TrainTask, sets: Sequence[Pairs | None], world: World, layout: Layout, reporter: Reporter
) -> list[Pairs | None]:
    """Each set with the reference's log-probs, from the cache or computed by all ranks together."""
    given = [pairs for pairs in sets if pairs is not None]
    wanted = [
        Wanted(
            pairs.table.digest(),
            len(pairs.lengths),
            lambda group, pairs=pairs: pairs.batch(group, layout, group),  # type: ignore[misc]
            rows_per_example=2,
        )
        for pairs in given
    ]
    found = iter(logps(task, wanted, world, reporter))
    return [None if pairs is None else pairs.with_reference(next(found)) for pairs in sets]


class Wanted(NamedTuple):
    """Rows whose answers' log-probs are wanted.

    Attributes:
        digest: of the tokenised rows.
        examples: how many there are.
        batch: some of the examples as a batch.
        which: what else tells these rows from others that are made of the same table.
        rows_per_example: 2 for pairs.
    """

    digest: str
    examples: int
    batch: Callable[[Sequence[int]], Batch]
    which: bytes = b""
    rows_per_example: int = 1


def logps(task: TrainTask, wanted: Sequence[Wanted], world: World, reporter: Reporter) -> list[np.ndarray]:
    """(rows,) float32 summed log-probs of each set, from the cache or computed by all ranks together.

    Raises:
        StoppedEarly: a stop was asked for before they were all there.
    """
    paths = [_path(task, rows, world.device) for rows in wanted]
    if not world.any(not all(path.is_file() for path in paths)):
        return [np.load(path) for path in paths]
    from autoalign.training.preference import AnswerLogps

    module = AnswerLogps(load(task).to(world.device))
    computed = [_compute(module, rows, world, reporter) for rows in wanted]
    if world.is_main:
        for path, values in zip(paths, computed, strict=True):
            _store(path, values)
    return computed


@contextmanager
def adapter_off(model: Any, frozen: Any | None) -> Iterator[None]:
    """Without a frozen reference, the model with its adapter off is the reference, and does not drop out."""
    if frozen is not None or not hasattr(model, "disable_adapter"):
        yield
        return
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with model.disable_adapter():
            yield
    finally:
        for module in training:
            module.training = True


@torch.no_grad()
def _compute(module: Any, rows: Wanted, world: World, reporter: Reporter) -> np.ndarray:
    """(rows,) summed log-probs; each rank takes every world_size-th group of examples."""
    count, each = rows.examples, rows.rows_per_example
    logps = np.zeros(each * count, np.float64)
    at_once = _ROWS_AT_ONCE // each
    groups = [range(start, min(start + at_once, count)) for start in range(0, count, at_once)]
    for first in range(0, len(groups), world.size):
        if world.any(world.is_main and reporter.should_stop()):
            raise StoppedEarly(
                "stopped before the first step, while the reference's log-probs were worked out"
            )
        if world.is_main:
            reporter.emit(counted("reference log-probs", each * groups[first][0], len(logps)))
        if first + world.rank < len(groups):
            group = groups[first + world.rank]
            batch = rows.batch(group).to(world.device)
            answers = torch.split(module(batch), list(batch.answer_lengths))
            logps[each * group[0] : each * (group[-1] + 1)] = [float(answer.sum()) for answer in answers]
    if world.size > 1:
        shared = torch.from_numpy(logps).to(world.device)
        dist.all_reduce(shared)
        logps = shared.cpu().numpy()
    return logps.astype(np.float32)


def _folder(task: TrainTask) -> Path:
    other = task.config.ref_model if isinstance(task.config, DPOConfig) else None
    return model_folder.find(other, fetch=True) if other else Path(task.model_path)


def _path(task: TrainTask, rows: Wanted, device: torch.device) -> Path:
    """Named by what the numbers depend on: `_stated`, and what else tells the rows apart."""
    stated = "\n".join(_stated(task, rows, device)).encode()
    name = hashlib.sha256(stated + rows.which).hexdigest()[:32]
    config = task.config
    folder = Path(config.cache_dir).expanduser() if config.cache_dir else default_cache_dir()
    return folder / "ref_logps" / f"{name}.npy"


def _stated(task: TrainTask, rows: Wanted, device: torch.device) -> list[str]:
    """Code, model, rows (template and length are in their ids), number type, kernels and layout."""
    config = task.config
    padding_free = is_padding_free(config, task.model_path)
    shares = shares_prompts(config, task.model_path)
    parts = [
        _code_digest(),
        manifest.model_digest(_folder(task)),
        rows.digest,
        f"bf16 {config.bf16}",
        f"attention {attention_kernel(config, str(_folder(task)))}",
        f"liger {config.use_liger_kernel}",
        f"compiled {config.torch_compile}",
        f"C kernels {device.type == 'cpu' and library.load() is not None}",
        f"padding-free {padding_free}, prompts shared {shares}",
        f"on {device.type}",
        f"torch {torch.__version__}, transformers {version('transformers')}",
    ]
    if is_quantized(config):
        parts.append("4 bits" if config.load_in_4bit else "8 bits")
    return parts


def _code_digest() -> str:
    package = Path(autoalign.__file__).parent
    return hashlib.sha256(b"".join((package / name).read_bytes() for name in _COMPUTED_BY)).hexdigest()


def _store(path: Path, logps: np.ndarray) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, logps, allow_pickle=False)
