"""The config of a sampling job (`autoalign-cli infer`, `ray_jobs/sample.py`)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from autoalign.config.base import JobConfig

Backend = Literal["vllm", "hf", "openai", "fake"]


class InferConfig(JobConfig):
    """Answer a file of prompts with a model: Ray Data over vLLM, transformers or an endpoint."""

    backend: Backend = Field(
        "vllm", description="what generates: vllm, hf (transformers), openai (any endpoint)"
    )
    model_path: str | None = Field(
        None, description="model folder; with openai: the model's id at the endpoint"
    )
    model_name: str | None = Field(
        None,
        description="name of the model in the output, and of its folder; none: the last part of model_path",
    )
    test_file: list[str] = Field(description="prompts: one or several files, ShareGPT, messages or prompts")
    template: str | None = Field(
        None, description="chat template: a name, a .jinja file, or none: the tokenizer's own"
    )
    source: str | None = Field(None, description="label of these answers; none: the model's name")
    system_message: str | None = Field(None, description="system message put in place of every prompt's own")

    output_dir: str = Field(
        "outputs", description="folder; answers go to OUTPUT_DIR/MODEL_NAME/SOURCE_TESTFILE.jsonl"
    )
    output_file: str | None = Field(
        None, description="another file name inside OUTPUT_DIR/MODEL_NAME, or a path with a slash"
    )
    output_format: Literal["jsonl", "sharegpt"] = Field(
        "jsonl",
        description="jsonl: one row an answer, with its figures; sharegpt: id, conversations, source",
    )
    overwrite: bool = Field(False, description="replace an output file that exists")

    n: int = Field(1, ge=1, description="answers for each prompt")
    temperature: float = Field(0.0, ge=0, description="0 takes the likeliest token; higher is more varied")
    top_p: float = Field(
        1.0, gt=0, le=1, description="sample from the smallest set of tokens with this probability"
    )
    top_k: int = Field(0, ge=-1, description="sample from this many likeliest tokens; 0 or -1: all")
    min_p: float = Field(
        0.0, ge=0, le=1, description="leave out tokens under this share of the likeliest one's"
    )
    repetition_penalty: float = Field(1.0, gt=0, description="above 1 makes tokens already seen less likely")
    max_new_tokens: int = Field(1024, ge=1, description="longest answer, in tokens")
    seed: int = Field(
        42, ge=0, description="each (prompt id, index) gets its own seed, derived from this one"
    )
    stop: list[str] = Field(default_factory=list, description="texts that end an answer (left out of it)")

    num_replicas: int = Field(1, ge=1, description="engines at work at the same time")
    concurrency: int | None = Field(
        None, ge=1, description="requests in flight for each replica; none: 256 vllm, 32 openai, 16 hf"
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
    trust_remote_code: bool = Field(False, description="run Python code that comes with the model folder")

    base_url: str | None = Field(
        None, description="openai: the endpoint; none: OPENAI_BASE_URL, then OpenAI's own"
    )
    api_key_env: str = Field("OPENAI_API_KEY", description="openai: environment variable that holds the key")
    max_retries: int = Field(
        5, ge=0, description="openai: tries again, with growing waits, on errors and limits"
    )
    timeout: float = Field(600.0, gt=0, description="openai: seconds to wait for one answer")

    limit: int | None = Field(None, ge=1, description="take only the first rows of the prompts")
    on_bad_row: Literal["stop", "quarantine"] = Field(
        "stop", description="a broken row: stop before any work, or put it into errors.jsonl and go on"
    )
    max_error_rate: float = Field(
        0.1, ge=0, le=1, description="exit code 1 when a larger share of answers failed"
    )
    ray_address: str | None = Field(None, description="Ray cluster; none: RAY_ADDRESS, else one of its own")

    @field_validator("test_file", "stop", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _model_is_named(self) -> Self:
        if not self.test_file:
            raise ValueError("'test_file' is empty: give at least one file of prompts")
        if self.model_path is None and (self.backend != "openai" or self.model_name is None):
            raise ValueError("'model_path' is missing: give --model_path or set it in the config file")
        return self

    @property
    def name(self) -> str:
        """The model's name in the output."""
        return self.model_name or Path(str(self.model_path).rstrip("/")).name

    @property
    def label(self) -> str:
        """What the output's `source` says."""
        return self.source or self.name

    @property
    def output_path(self) -> Path:
        """Where the answers go."""
        folder = Path(self.output_dir) / self.name.replace("/", "_")
        if self.output_file is not None:
            given = Path(self.output_file)
            return given if given.is_absolute() or len(given.parts) > 1 else folder / given
        stem = Path(self.test_file[0]).name.removesuffix(".gz")
        stem = stem.rsplit(".", 1)[0] if "." in stem else stem
        suffix = "jsonl" if self.output_format == "jsonl" else "json"
        return folder / f"{self.label.replace('/', '_')}_{stem}.{suffix}"
