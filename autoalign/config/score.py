"""The config of `autoalign-cli score`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from autoalign.config.base import JobConfig

Positive = Annotated[int, Field(gt=0)]


class ScoreConfig(JobConfig):
    """Give every answer of a file the reward that a reward model sees in it."""

    model_path: str = Field(description="reward model: a folder that `rm` wrote, or ORG/NAME on the hub")
    data_path: list[str] = Field(
        min_length=1, description="conversations, preference pairs, or what infer wrote; one or several files"
    )
    output_file: str = Field(description="JSONL: the rows as they are, in their order, with their rewards")
    overwrite: bool = Field(False, description="replace an output file that exists")
    format: str | None = Field(None, description="data format; told apart by its keys when not given")
    template: str | None = Field(
        None, description="chat template: a name, a .jinja file, or none: the tokenizer's own"
    )

    batch_size: Positive = Field(16, description="answers that are scored at once")
    max_length: Positive | None = Field(
        None, description="tokens of a conversation, cut off at its end; none: the model's context"
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="number type of the weights; auto: bfloat16 on a GPU, float32 on a CPU"
    )
    use_gpu: bool | None = Field(None, description="score on a GPU; none: when the machine has one")
    attn_implementation: Literal["auto", "rows", "sdpa", "eager", "flash_attention_2"] = Field(
        "auto", description="attention kernel, as in training; sdpa and eager pad"
    )
    trust_remote_code: bool = Field(False, description="run Python code that comes with the model folder")

    @field_validator("data_path", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value
