"""What every job that generates asks of its config: which engine, which model, how many of them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from autoalign.config.base import JobConfig
from autoalign.config.counts import Count, fewest, most

Backend = Literal["vllm", "hf", "openai", "serve", "fake"]


class EngineConfig(JobConfig):
    """A model behind an engine."""

    backend: Backend = Field(
        "vllm",
        description="what generates: vllm, hf (transformers), openai (any endpoint), serve (a deployment on "
        "Ray Serve, with prompts that are rendered here)",
    )
    model_path: str | None = Field(
        None, description="model folder; with openai: the model's id at the endpoint"
    )
    model_name: str | None = Field(
        None,
        description="name of the model in the output, and of its folder; none: the last part of model_path",
    )
    template: str | None = Field(
        None, description="chat template: a name, a .jinja file, or none: the tokenizer's own"
    )

    num_replicas: Count = Field(
        1, description="engines at work at the same time; MIN:MAX: as many as the work and the cluster allow"
    )
    cpus_per_replica: int | None = Field(
        None, ge=1, description="CPU threads of one vLLM replica without a GPU; none: a fair share"
    )
    concurrency: int | None = Field(
        None,
        ge=1,
        description="requests in flight for each replica; none: 256 vllm, 32 openai, serve, 16 hf",
    )
    tensor_parallel_size: int = Field(1, ge=1, description="GPUs that share each layer of one vLLM replica")
    pipeline_parallel_size: int = Field(
        1, ge=1, description="GPUs in a row that split one vLLM replica's layers"
    )
    max_model_len: int | None = Field(None, ge=1, description="context in tokens; none: the model's own")
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "auto", description="number type of the weights"
    )
    gpu_memory_utilization: float = Field(
        0.9, gt=0, le=1, description="share of a GPU's memory that vLLM takes"
    )
    enforce_eager: bool | None = Field(
        None, description="start vLLM without compiling; none: true on a CPU, false on a GPU"
    )
    batch_invariant: bool = Field(
        False,
        description="vllm on GPUs: a text does not depend on what else is in its batch, nor on the number of "
        "replicas; slower, from compute capability 9.0 on (on a CPU: dtype float32)",
    )
    trust_remote_code: bool = Field(False, description="run Python code that comes with the model folder")

    base_url: str | list[str] | None = Field(
        None,
        description="openai, serve: the endpoint, or several that share the load; none: OPENAI_BASE_URL, "
        "then OpenAI's own",
    )
    serve_app: str | None = Field(
        None, description="serve: the application's name on this cluster, in place of base_url"
    )
    api_key_env: str = Field(
        "OPENAI_API_KEY", description="openai, serve: environment variable that holds the key"
    )
    max_retries: int = Field(
        5, ge=0, description="openai, serve: tries again, with growing waits, on errors and limits"
    )
    timeout: float = Field(600.0, gt=0, description="openai, serve: seconds to wait for one answer")
    requests_per_minute: float | None = Field(
        None, gt=0, description="openai, serve: most requests a minute, of all replicas together"
    )
    tokens_per_minute: float | None = Field(
        None, gt=0, description="openai, serve: most tokens a minute, of prompts and answers together"
    )
    ray_address: str | None = Field(None, description="Ray cluster; none: RAY_ADDRESS, else one of its own")

    @field_validator("base_url")
    @classmethod
    def _urls(cls, value: str | list[str] | None) -> str | list[str] | None:
        for url in [value] if isinstance(value, str) else value or []:
            if not url.startswith(("http://", "https://")):
                raise ValueError(f"a URL that begins with http:// or https:// is expected, not {url!r}")
        return value

    @model_validator(mode="after")
    def _deployment_is_named(self) -> Self:
        if self.serve_app is not None and self.backend != "serve":
            raise ValueError(f"'serve_app' is for backend serve, not {self.backend}")
        if self.backend == "serve" and (self.serve_app is None) == (self.base_url is None):
            raise ValueError("backend serve needs either 'base_url' or 'serve_app'")
        return self

    @model_validator(mode="after")
    def _model_is_named(self) -> Self:
        if getattr(self, "models", None):
            return self
        if self.model_path is None and (self.backend != "openai" or self.model_name is None):
            raise ValueError("'model_path' is missing: give --model_path or set it in the config file")
        return self

    @property
    def name(self) -> str:
        """The model's name in the output."""
        return self.model_name or Path(str(self.model_path).rstrip("/")).name

    @property
    def min_replicas(self) -> int:
        """The engines that the job starts with."""
        return fewest(self.num_replicas)

    @property
    def max_replicas(self) -> int:
        """The most engines that it may have."""
        return most(self.num_replicas)
