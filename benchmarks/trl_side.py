"""TRL's side: its own trainers, fed the token ids that our side trains on."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer  # type: ignore[attr-defined]

from benchmarks import workload
from benchmarks.meter import Meter, figures
from benchmarks.plan import Settings
from benchmarks.workload import Row

_MICRO_BATCHES = {"padded": 1, "grouped 4x2": 2, "single": None, "packed": 1, "packed 4x2": 2}
"""Micro-batches of a step in each layout; None: one an example."""


class ClockCallback(TrainerCallback):
    """A mark at the end of every optimizer step."""

    def __init__(self) -> None:
        self.meter = Meter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Take it."""
        self.meter.step_ended()


class TokenDPOTrainer(DPOTrainer):
    """TRL's trainer on pairs that are token ids already."""

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset


def measure_sft(settings: Settings, layout: str | None) -> dict[str, Any]:
    """Tokens a second of SFTTrainer.

    Args:
        layout: one of SFT_LAYOUTS, in bfloat16 without checkpointing; None: as TRL comes, in float32.
    """
    steps = workload.read(settings, "sft")
    expected = workload.amounts(steps, "sft")
    if layout is not None and layout.startswith("grouped"):
        steps = [steps[0], *_grouped(steps[1:])]
    micro_batches = _micro_batches(layout or "padded", settings.rows)
    options: dict[str, Any] = {"bf16": layout is not None}
    if layout is not None:
        options["gradient_checkpointing"] = False
        if layout.startswith("packed"):
            options |= {"padding_free": True, "max_length": None}
    clock = ClockCallback()
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            per_device_train_batch_size=settings.rows // micro_batches,
            gradient_accumulation_steps=micro_batches,
            dataset_kwargs={"skip_prepare_dataset": True},
            **options,
            **_shared(settings, folder),
        )
        _train(SFTTrainer, settings, arguments, steps, clock)
    return figures(clock.meter.marks, expected, layout=layout)


def measure_dpo(settings: Settings, layout: str, precomputed: bool) -> dict[str, Any]:
    """Pairs a second of DPOTrainer, in bfloat16 without checkpointing.

    Args:
        layout: one of DPO_LAYOUTS.
        precomputed: with the reference's log-probs worked out before the clock starts; else with
            the reference in memory.
    """
    steps, clock = workload.read(settings, "dpo"), ClockCallback()
    micro_batches = _micro_batches(layout, settings.pairs_a_step)
    with tempfile.TemporaryDirectory() as folder:
        arguments = DPOConfig(
            per_device_train_batch_size=settings.pairs_a_step // micro_batches,
            gradient_accumulation_steps=micro_batches,
            bf16=True,
            gradient_checkpointing=False,
            precompute_ref_log_probs=precomputed,
            max_length=settings.pair_length,
            **_shared(settings, folder),
        )
        _train(TokenDPOTrainer, settings, arguments, steps, clock)
    return figures(clock.meter.marks, workload.amounts(steps, "dpo"), layout=layout)


def _shared(settings: Settings, folder: str) -> dict[str, Any]:
    return {
        "output_dir": folder,
        "max_steps": settings.total_steps,
        "train_sampling_strategy": "sequential",
        "lr_scheduler_type": "constant",
        "use_cpu": not torch.cuda.is_available(),
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
    }


def _train(
    trainer: Any, settings: Settings, arguments: Any, steps: Sequence[Sequence[Row]], clock: ClockCallback
) -> None:
    torch.set_num_threads(settings.threads)
    dtype = torch.bfloat16 if arguments.bf16 else torch.float32
    trainer(
        model=AutoModelForCausalLM.from_pretrained(settings.model, dtype=dtype),
        args=arguments,
        train_dataset=Dataset.from_list([row for step in steps for row in step]),
        processing_class=AutoTokenizer.from_pretrained(settings.model),
        callbacks=[clock],
    ).train()


def _micro_batches(layout: str, examples: int) -> int:
    return min(_MICRO_BATCHES[layout] or examples, examples)


def _grouped(steps: Sequence[Sequence[Row]]) -> list[list[Row]]:
    """The same rows, those of similar length in the same step."""
    size = len(steps[0])
    rows = sorted((row for step in steps for row in step), key=lambda row: -len(row["input_ids"]))
    return [rows[start : start + size] for start in range(0, len(rows), size)]
