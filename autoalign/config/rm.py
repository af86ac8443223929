"""Config of a reward model's training."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, model_validator

from autoalign.config.train import DataKind, TrainConfig


class RMConfig(TrainConfig):
    """Train a reward model on preference pairs: the better answer gets the higher number."""

    job: ClassVar[str] = "rm"

    learning_rate: float = Field(1e-5, gt=0, description="peak learning rate")
    num_train_epochs: float = Field(
        1.0, gt=0, description="passes over the data; a reward model overfits after one or two"
    )
    center_rewards_coefficient: float = Field(
        0.0, ge=0, description="pulls each pair's rewards towards a sum of 0; 0.01 is usual, 0 is off"
    )

    @property
    def data_kind(self) -> DataKind:
        return "preference"

    @model_validator(mode="after")
    def _check_layout_of_pairs(self) -> RMConfig:
        if self.packing:
            raise ValueError("'packing' is for sft: pairs are laid out without padding as they are")
        return self
