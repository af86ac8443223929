"""The settings of `autoalign-cli chat`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from autoalign.config.base import JobConfig


class ChatConfig(JobConfig):
    """Talk to a model in the terminal; answers appear as they are generated. /help lists the commands."""

    model_path: str | None = Field(None, description="model folder; openai: the model's id there")
    backend: Literal["hf", "vllm", "openai", "fake"] = Field("hf", description="hf starts in seconds")
    template: str | None = Field(
        None, description="chat template: a name, a .jinja file, or none: the tokenizer's own"
    )
    system_message: str | None = Field(None, description="system message to begin with")
    temperature: float = Field(0.7, ge=0, description="0 takes the likeliest token; higher is more varied")
    top_p: float = Field(0.95, gt=0, le=1, description="sample from the likeliest tokens of this probability")
    top_k: int = Field(0, ge=-1, description="sample from this many likeliest tokens; 0 or -1: all")
    repetition_penalty: float = Field(1.0, gt=0, description="above 1 makes tokens already seen less likely")
    max_new_tokens: int = Field(512, ge=1, description="longest answer, in tokens")
    seed: int | None = Field(None, ge=0, description="same seed, same chat; none: another each time")
    max_model_len: int | None = Field(None, ge=1, description="context in tokens; none: the model's own")
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "auto", description="type of the weights"
    )
    trust_remote_code: bool = Field(False, description="run Python code that comes with the model folder")
    base_url: str | None = Field(None, description="openai: the endpoint; none: OPENAI_BASE_URL")
    api_key_env: str = Field("OPENAI_API_KEY", description="openai: environment variable with the key")

    @model_validator(mode="after")
    def _model_is_named(self) -> Self:
        if self.model_path is None:
            raise ValueError("'model_path' is missing: give --model_path or set it in the config file")
        return self
