"""Config of a supervised fine-tuning job."""

from __future__ import annotations

from typing import ClassVar

from autoalign.config.train import TrainConfig


class SFTConfig(TrainConfig):
    """Fine-tune a model on conversations: the loss covers the answers and their end tokens."""

    job: ClassVar[str] = "sft"
