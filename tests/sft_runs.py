"""Short `sft` runs of the tiny model in this process, and the same training written out with transformers."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from autoalign.config.sft import SFTConfig
from autoalign.training.loop import TrainReport
from autoalign.training.metrics import read_metrics
from autoalign.training.run import run

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Run:
    """What a run left behind."""

    folder: Path
    report: TrainReport

    @property
    def lines(self) -> list[dict[str, Any]]:
        """All lines of metrics.jsonl."""
        return read_metrics(self.folder / "metrics.jsonl")

    def column(self, name: str) -> list[Any]:
        """A figure of each line that has it."""
        return [line[name] for line in self.lines if name in line]

    @property
    def manifest(self) -> dict[str, Any]:
        """autoalign.json."""
        content: dict[str, Any] = json.loads((self.folder / "autoalign.json").read_text(encoding="utf-8"))
        return content

    @property
    def checkpoints(self) -> list[str]:
        """Names of the checkpoint folders."""
        return sorted(path.name for path in self.folder.glob("checkpoint-*"))

    @property
    def weights(self) -> Weights:
        """The final model's."""
        return read_weights(self.folder)


@dataclass
class Runner:
    """Runs `sft` with the tiny model, rows and cache of a test module; each config once."""

    model: Path
    data: Path
    scratch: Path
    _done: dict[str, Run] = field(default_factory=dict)

    def config(self, **values: Any) -> SFTConfig:
        """Three steps of 4 rows in float32, with a constant learning rate that shows."""
        shared = {
            "model_name_or_path": str(self.model),
            "data_path": [str(self.data)],
            "output_dir": str(self.scratch / f"out-{len(list(self.scratch.glob('out-*')))}"),
            "cache_dir": str(self.scratch / "cache"),
            "conv_template_name": "chatml",
            "launcher": "local",
            "bf16": False,
            "max_steps": 3,
            "learning_rate": 1e-3,
            "lr_scheduler_type": "constant",
            "warmup_ratio": 0.0,
        }
        return SFTConfig(**{**shared, **values})

    def __call__(self, **values: Any) -> Run:
        key = repr(sorted(values.items()))
        if key not in self._done:
            self._done[key] = self.fresh(**values)
        return self._done[key]

    def fresh(self, **values: Any) -> Run:
        """A run that is not shared."""
        config = self.config(**values)
        return Run(Path(config.output_dir), run(config))


def read_weights(folder: Path) -> Weights:
    """A folder's safetensors files."""
    from safetensors.torch import load_file

    return {k: v for path in sorted(folder.glob("*.safetensors")) for k, v in load_file(path).items()}


def distance(left: Weights, right: Weights) -> float:
    """The largest difference of any weight."""
    assert left.keys() == right.keys()
    return max((left[name].float() - right[name].float()).abs().max().item() for name in left)


def labelled_batch(folder: Path, data: Path) -> dict[str, torch.Tensor]:
    """All rows as one padded batch: transformers' own rendering and masks with the folder's chat template."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = [json.loads(line)["messages"] for line in data.read_text(encoding="utf-8").splitlines()]
    encoded = tokenizer.apply_chat_template(
        rows, return_dict=True, return_assistant_tokens_mask=True, padding=True, return_tensors="pt"
    )
    spoken = torch.as_tensor(encoded["assistant_masks"]).bool()
    return {
        "input_ids": encoded["input_ids"],
        "attention_mask": encoded["attention_mask"],
        "labels": encoded["input_ids"].masked_fill(~spoken, -100),
    }


def reference_training(
    model_folder: Path, batch: dict[str, torch.Tensor], steps: int, max_grad_norm: float = 1.0, **adamw: Any
) -> tuple[list[float], list[float], Weights]:
    """Losses, gradient norms and final weights of AdamW on one batch, with transformers' own loss.

    Args:
        adamw: over torch's defaults; weight_decay is for matrices alone.
    """
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    decay = adamw.pop("weight_decay", 0.0)
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, **{"lr": 1e-3, **adamw})
    losses, norms = [], []
    for _ in range(steps):
        loss = model(**batch).loss
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm or torch.inf).item())
        losses.append(loss.item())
        optimizer.step()
        optimizer.zero_grad()
    return losses, norms, {name: p.detach() for name, p in model.named_parameters()}
