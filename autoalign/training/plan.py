"""What a training job will take, before it starts: memory, steps, tokens, hours.

The data is read and tokenised as training does it (and cached for it); of the model, config.json
and the headers of its safetensors files are read, and no weight.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from autoalign import model_folder
from autoalign.config.dpo import DPOConfig
from autoalign.config.train import TrainConfig
from autoalign.errors import ConfigError
from autoalign.training import space, speed
from autoalign.training.footprint import (
    BEFORE_THE_STEPS,
    Footprint,
    MicroBatch,
    footprint,
    read_architecture,
)
from autoalign.training.memory import free_memory
from autoalign.training.metrics import METRICS_NAME, read_metrics
from autoalign.training.order import DataOrder
from autoalign.training.speed import Speed
from autoalign.training.tokens import RowTable, TokenCounts

GIB = 2**30
CUDA_CONTEXT = GIB // 2
"""What a process takes on a GPU before its first tensor, about."""
LIBRARIES = 700 * 2**20
"""A CPU worker after its imports (0.46 to 0.48 GiB measured), with room for what the allocator keeps."""


class Room(NamedTuple):
    """Memory that a worker may take."""

    bytes: int
    what: str


@dataclass(frozen=True)
class Plan:
    """What the job will take.

    Attributes:
        largest: tokens and supervised tokens of the largest micro-batch.
        epoch_tokens: of each step in the first epoch, or of all steps where there are fewer.
        tokens_per_second: over all workers; None when nothing says.
        speed_from: where that figure is from.
    """

    memory: Footprint
    room: Room
    workers: int
    largest: MicroBatch
    counts: TokenCounts
    bad_rows: int
    steps: int
    steps_per_epoch: int
    epoch_tokens: Sequence[int]
    tokens_per_second: float | None
    speed_from: str

    @property
    def tokens(self) -> int:
        """Of all steps; later epochs are taken to be like the first."""
        whole, rest = divmod(self.steps, len(self.epoch_tokens))
        return whole * sum(self.epoch_tokens) + sum(self.epoch_tokens[:rest])

    @property
    def seconds(self) -> float | None:
        """Of training; None when no speed is known."""
        return None if self.tokens_per_second is None else self.tokens / self.tokens_per_second


def make_plan(
    config: TrainConfig,
    *,
    tokens_per_second: float | None = None,
    gpu_memory_gib: float | None = None,
    gpu_tflops: float | None = None,
) -> Plan:
    """Plan the job; nothing is written but the cache of tokenised rows.

    Args:
        tokens_per_second: over all workers; None: as in an earlier run in output_dir, else an estimate.
        gpu_memory_gib: of each GPU; None: workers run on this machine's CPU.
        gpu_tflops: what each GPU multiplies at best, in the job's number type: to estimate the speed from.

    Raises:
        InputError: the config, the model, the data or the template are wrong.
    """
    room = _room(config, gpu_memory_gib)
    folder = model_folder.find(config.model_name_or_path)
    with tempfile.TemporaryDirectory(prefix="autoalign-") as scratch:
        table, bad_rows = _read(config, folder, Path(scratch) / "errors.jsonl")
    # These load torch; what could be refused without it has been.
    from autoalign.training import reference
    from autoalign.training.examples import Pairs, Rows
    from autoalign.training.model import is_padding_free
    from autoalign.training.order import data_order, total_steps
    from autoalign.training.output import worker_count

    workers = worker_count(config)
    examples = Pairs(table) if config.learns_from_pairs else Rows(table)
    order = data_order(config, examples, workers, is_padding_free(config, str(folder)))
    steps = total_steps(config, order)
    walk = _walk(config, str(folder), order, table, steps)
    sizes = read_architecture(folder)
    known = _known_speed(config, tokens_per_second)
    if known.tokens_per_second is None:
        share = table.counts.supervised_tokens / max(1, table.counts.tokens)
        if gpu_tflops is not None:
            known = speed.on_gpus(sizes, config, share, gpu_tflops, workers)
        elif gpu_memory_gib is None:
            known = speed.on_this_cpu(sizes, config, share)
    memory_of = partial(
        footprint,
        shapes=space.weight_shapes(folder),
        sizes=sizes,
        batch=walk.largest,
        workers=workers,
        libraries=CUDA_CONTEXT if gpu_memory_gib else LIBRARIES,
        keeps_reference=isinstance(config, DPOConfig) and reference.is_kept(config),
        precomputes_reference=isinstance(config, DPOConfig) and reference.is_precomputed(config),
        on_gpu=gpu_memory_gib is not None,
    )
    saving = _saving(_as_attended(config, str(folder)), steps)
    memory = memory_of(saving)
    if memory.peak > room.bytes:
        # The job sees that there is no room for a snapshot, and writes without one.
        memory = memory_of(saving.model_copy(update={"async_save": False}))
    return Plan(
        memory=memory,
        room=room,
        workers=workers,
        largest=walk.largest,
        counts=table.counts,
        bad_rows=bad_rows,
        steps=steps,
        steps_per_epoch=order.steps_per_epoch,
        epoch_tokens=walk.tokens,
        tokens_per_second=known.tokens_per_second,
        speed_from=known.source,
    )


def require_room(plan: Plan) -> None:
    """Refuse a job that cannot fit.

    Raises:
        ConfigError: a worker's peak is over what there is.
    """
    memory, room = plan.memory, plan.room
    if memory.peak <= room.bytes:
        return
    raise ConfigError(
        f"a worker takes {memory.peak / GIB:.1f} GiB {memory.peak_moment}, and {room.what} has "
        f"{room.bytes / GIB:.1f} GiB: this job cannot fit; {_advice(plan)}"
    )


def _advice(plan: Plan) -> str:
    memory = plan.memory
    if memory.peak_moment == BEFORE_THE_STEPS:
        return "try --no_precompute_ref_log_probs, which shards the reference as it does the model"
    if memory.peak_moment == "at the loss" and memory.activations >= memory.optimizer:
        return (
            "try --gradient_checkpointing, a smaller --per_device_train_batch_size with more "
            "--gradient_accumulation_steps, or a shorter --model_max_length"
        )
    return "try --use_lora, or --deepspeed zero3 with more --num_workers"


def _read(config: TrainConfig, folder: Path, bad_rows: Path) -> tuple[RowTable, int]:
    """The rows, and how many were put aside."""
    from autoalign.training.prepare import read_training_rows
    from autoalign.training.reporting import Display

    table = read_training_rows(config, str(folder), bad_rows, Display("plan", quiet=True))
    aside = bad_rows.read_text(encoding="utf-8").splitlines() if bad_rows.is_file() else []
    return table, len(aside)


class _Walk(NamedTuple):
    largest: MicroBatch
    tokens: list[int]


def _walk(config: TrainConfig, path: str, order: DataOrder, table: RowTable, steps: int) -> _Walk:
    """Every step of the first epoch: its tokens, and the micro-batch that is the largest of all."""
    from autoalign.training.batches import collate
    from autoalign.training.model import is_padding_free, shares_prompts

    padded = not is_padding_free(config, path)
    tokens: list[int] = []
    largest: list[int] = []
    most = 0
    for step in range(min(steps, order.steps_per_epoch)):
        parts = order.step(step)
        tokens.append(sum(order.lengths[example] for part in parts for example in part))
        for part in parts:
            lengths = [table.lengths[row] for row in _rows(config, part)]
            size = max(lengths, default=0) * len(lengths) if padded else sum(lengths)
            if size > most:
                most, largest = size, part
    rows = _rows(config, largest)
    lengths = [table.lengths[row] for row in rows]
    if padded:
        lengths = [max(lengths)] * len(lengths)
    elif shares_prompts(config, path):
        batch = collate([table.row(row) for row in rows], padding_free=True, shares_prompts=True)
        most, lengths = batch.tokens, list(batch.row_lengths or ())
    return _Walk(MicroBatch(most, int(table.supervised_counts[rows].sum()), lengths), tokens)


def _rows(config: TrainConfig, examples: Sequence[int]) -> list[int]:
    """A pair is two rows of the table."""
    if not config.learns_from_pairs:
        return list(examples)
    return [row for pair in examples for row in (2 * pair, 2 * pair + 1)]


def _as_attended(config: TrainConfig, path: str) -> TrainConfig:
    """The config with the attention that the model gets: eager keeps more than any other."""
    from autoalign.training.model import own_attention

    own = own_attention(config, path)
    return config if own is None else config.model_copy(update={"attn_implementation": own})


def _saving(config: TrainConfig, steps: int) -> TrainConfig:
    """The config without `save_steps` where the job ends before its first checkpoint."""
    is_short = config.save_steps is not None and config.save_steps >= steps
    return config.model_copy(update={"save_steps": None}) if is_short else config


def _known_speed(config: TrainConfig, given: float | None) -> Speed:
    if given is not None:
        return Speed(given, "from --tokens_per_second")
    path = Path(config.output_dir).expanduser() / METRICS_NAME
    measured = [row["tokens_per_second"] for row in read_metrics(path) if row.get("tokens_per_second")]
    # The first step warms the caches up.
    return Speed(statistics.median(measured[1:] or measured), f"from {path}") if measured else Speed(None, "")


def _room(config: TrainConfig, gpu_memory_gib: float | None) -> Room:
    if gpu_memory_gib is not None:
        return Room(int(gpu_memory_gib * GIB), "the GPU")
    if config.use_gpu:
        raise ConfigError("'use_gpu' is true: say how large the GPU is: --gpu_memory_gib N")
    return Room(free_memory(), "this machine's free memory")
