"""The config of `autoalign-cli merge`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from autoalign.config.base import JobConfig


class MergeConfig(JobConfig):
    """Combine checkpoints of one architecture, or write LoRA adapters into their base model."""

    models: list[str] = Field(
        min_length=1, description="model or LoRA adapter folders, each with an optional weight as PATH@0.7"
    )
    method: str = Field(
        "average",
        description="average, weighted, slerp, task_arithmetic, ties, dare_linear, dare_ties, or lora",
    )
    output_dir: str = Field(description="folder for the merged model")
    base_model: str | None = Field(
        None,
        description="the model that all were trained from: task_arithmetic, ties, dare_*; with adapters "
        "none: the base that they name",
    )
    tokenizer_source: str | None = Field(
        None,
        description="model whose tokenizer, chat template and generation settings the result gets; "
        "none: the first",
    )

    normalize: bool | None = Field(
        None, description="weighted: divide by the sum of the weights; none: the method's own (true)"
    )
    t: float | None = Field(
        None, description="slerp: from the first model (0) to the second (1); none: the method's own (0.5)"
    )
    scale: float | None = Field(
        None,
        description="task_arithmetic, ties, dare_*: the papers' lambda; none: the method's own (1)",
    )
    density: float | None = Field(
        None,
        description="share of each task vector that is kept; none: the method's own (ties 0.2, dare_* 0.5)",
    )
    seed: int | None = Field(
        None, ge=0, description="dare_*: decides what is kept; none: the method's own (42)"
    )

    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "auto", description="type of the merged weights; auto: as in the first model"
    )
    max_shard_size: float = Field(5.0, gt=0, description="largest weight file, in GB")
    overwrite: bool = Field(False, description="replace a model that is in OUTPUT_DIR")

    @field_validator("models", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _paths_are_given(self) -> Self:
        if not all(model.strip() for model in self.models) or not self.output_dir.strip():
            raise ValueError("'models' and 'output_dir': an empty path is given")
        return self
