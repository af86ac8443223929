"""One side of the fine-tuning benchmark in a process of its own; prints its figures as one JSON line.

    python -m benchmarks.sft_sides ours --model M --data D --batch_size 8 --steps 6

Both sides see the same rows in the same batches, in the same dtype, on the same threads.
The first two steps warm up and are not counted.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Sequence
from typing import Any

WARM_UP_STEPS = 2


def main(argv: Sequence[str] | None = None) -> None:
    """Run one side."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("side", choices=["ours", "trl_defaults", "trl_tuned"])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=6)
    options = parser.parse_args(argv)
    rows = _rows(options)
    seconds = _ours(options) if options.side == "ours" else _trl(options, rows)
    counted = rows[WARM_UP_STEPS * options.batch_size :]
    tokens = sum(len(row["input_ids"]) for row in counted)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        json.dumps(
            {
                "side": options.side,
                "tokens": tokens,
                "seconds": round(seconds, 3),
                "tokens_per_second": round(tokens / seconds, 1),
                "peak_mib": round(peak),
            }
        )
    )


def _rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of all steps, rendered with the model's own template, answers labelled."""
    from autoalign import chat, formats, model_folder

    tokenizer = model_folder.load_tokenizer(options.model)
    template = chat.get_template(None, tokenizer)
    records = formats.load(options.data, limit=options.steps * options.batch_size).conversations
    encoded = chat.encode_batch([record.messages for record in records], tokenizer, template)
    return [{"input_ids": row.input_ids, "labels": row.labels} for row in encoded]


def _ours(options: argparse.Namespace) -> float:
    from autoalign.config.sft import SFTConfig
    from autoalign.training.metrics import read_metrics
    from autoalign.training.run import run

    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            model_name_or_path=options.model,
            data_path=[options.data],
            output_dir=f"{folder}/out",
            max_train_samples=options.steps * options.batch_size,
            max_steps=options.steps,
            per_device_train_batch_size=options.batch_size,
            group_by_length=False,
            save_steps=None,
            launcher="local",
        )
        report = run(config)
        rows = read_metrics(report.output_dir / "metrics.jsonl")
    return float(rows[-1]["seconds"] - rows[WARM_UP_STEPS - 1]["seconds"])


def _trl(options: argparse.Namespace, rows: list[dict[str, Any]]) -> float:
    """TRL's SFTTrainer: as it comes (float32, checkpointing on), or bfloat16 without checkpointing."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer  # type: ignore[attr-defined]

    tuned = options.side == "trl_tuned"
    marks: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            marks.append(time.monotonic())

    dtype = torch.bfloat16 if tuned else torch.float32
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=options.batch_size,
            max_steps=options.steps,
            bf16=tuned,
            gradient_checkpointing=not tuned,
            use_cpu=not torch.cuda.is_available(),
            report_to="none",
            save_strategy="no",
            dataset_kwargs={"skip_prepare_dataset": True},
        )
        SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(options.model, dtype=dtype),
            args=arguments,
            train_dataset=Dataset.from_list(rows),
            processing_class=AutoTokenizer.from_pretrained(options.model),
            callbacks=[Clock()],
        ).train()
    return marks[-1] - marks[WARM_UP_STEPS - 1]


if __name__ == "__main__":
    main()
