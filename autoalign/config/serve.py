"""The settings of `autoalign-cli serve`."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from autoalign.config.base import JobConfig


class ServeConfig(JobConfig):
    """Serve models over OpenAI's API, with Ray Serve and vLLM."""

    checkpoint_path: str | None = Field(None, description="model folder that is loaded at once")
    model_name: str | None = Field(None, description="its id at the endpoint; none: the folder's name")
    template: str | None = Field(
        None, description="its chat template: a name, a .jinja file, or none: the checkpoint's own"
    )
    model_roots: list[str] = Field(
        default_factory=list,
        description="folders whose model folders and LoRA adapters are served too, loaded when asked for",
    )
    backend: Literal["vllm", "fake"] = Field("vllm", description="what answers; fake: words, for tests")
    mode: Literal["api", "cli", "browser"] = Field(
        "api", description="api: an endpoint; browser: and a chat page opened; cli: a chat in this terminal"
    )
    host: str = Field("127.0.0.1", description="address to listen on; a public one needs require_tokens")
    port: int = Field(8000, ge=1, le=65535, description="port to listen on")
    require_tokens: bool = Field(
        False, description="every route but /healthz and /readyz wants a token (autoalign-cli tokens create)"
    )

    jobs: bool = Field(
        False,
        description="jobs, files, fine-tuning and batches too, as 'autoalign-cli serve platform' has them",
    )
    ray_jobs_address: str | None = Field(
        None,
        description="jobs: dashboard of the Ray cluster they run on; auto: of the cluster that this joined; "
        "none: processes of this machine",
    )

    max_loaded_models: int = Field(
        2, ge=1, description="models in memory at a time; the one longest unused makes room"
    )
    min_replicas: int = Field(1, ge=1, description="engines of a loaded model, at least")
    max_replicas: int = Field(1, ge=1, description="engines of a loaded model under load, at most")
    target_in_flight: int = Field(
        64, ge=1, description="requests in flight for each engine, above which another one is started"
    )
    max_in_flight: int = Field(256, ge=1, description="requests that one engine works on at a time")
    max_queued: int = Field(
        256, ge=1, description="requests that wait for an engine; further ones are answered 429"
    )
    load_timeout: float = Field(
        600.0, gt=0, description="seconds that a request waits for its model to be loaded"
    )
    max_body_bytes: int = Field(16 << 20, ge=1024, description="longest body of a request, in bytes")
    max_upload_bytes: int = Field(1 << 30, ge=1024, description="longest uploaded file, in bytes")
    requests_per_minute: int = Field(
        0, ge=0, description="requests that one token may send in a minute, 0: any number; above: 429"
    )

    cpus_per_replica: float = Field(1.0, ge=0, description="logical CPUs that an engine takes in Ray")
    tensor_parallel_size: int = Field(1, ge=1, description="GPUs that share each layer of one engine")
    max_model_len: int | None = Field(None, ge=1, description="context in tokens; none: the model's own")
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "auto", description="number type of the weights"
    )
    gpu_memory_utilization: float = Field(
        0.9, gt=0, le=1, description="share of a GPU's memory that an engine takes"
    )
    enforce_eager: bool | None = Field(
        None, description="start vLLM without compiling; none: true on a CPU, false on a GPU"
    )
    trust_remote_code: bool = Field(False, description="run Python code that comes with the model folder")
    max_loras: int = Field(4, ge=1, description="LoRA adapters of one model in memory at a time")
    max_lora_rank: int = Field(64, ge=1, description="highest rank of a LoRA adapter")
    tool_call_parser: str | None = Field(
        "hermes", description="vLLM's parser of tool calls in answers; none: no tools"
    )
    engine_args: list[str] = Field(
        default_factory=list, description="more flags of vLLM's server, as they are: ['--max-num-seqs=64']"
    )
    ray_address: str | None = Field(None, description="Ray cluster; none: RAY_ADDRESS, else one of its own")

    @model_validator(mode="after")
    def _served_and_closed(self) -> Self:
        if self.checkpoint_path is None and not self.model_roots:
            raise ValueError("nothing to serve: give --checkpoint_path, or --model_roots with model folders")
        if self.min_replicas > self.max_replicas:
            raise ValueError("'min_replicas' is above 'max_replicas'")
        if self.mode == "cli" and self.checkpoint_path is None:
            raise ValueError("mode 'cli' talks to one model: give --checkpoint_path")
        if not self.require_tokens and self.mode != "cli" and not is_loopback(self.host):
            raise ValueError(
                f"'host' {self.host} can be reached from other machines, so tokens are needed: add "
                "--require_tokens and make one with 'autoalign-cli tokens create', or stay on 127.0.0.1"
            )
        return self

    @property
    def default_model(self) -> str | None:
        """The id of the model that is loaded at once."""
        if self.checkpoint_path is None:
            return None
        return self.model_name or Path(self.checkpoint_path.rstrip("/")).name


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`; a name other than localhost may be anybody's."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
