"""The engine Protocol: what a request holds, what comes back, how an engine is made.

Prompts arrive rendered and tokenised (`token_ids`); an engine never renders a
conversation itself. Only `openai` sends the messages, since its endpoint renders.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from autoalign import plugins
from autoalign.errors import AutoAlignError, ConfigError, JobFailed


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to pick tokens; the same names and meanings as the config's keys, but `json_schema` is the text."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    max_new_tokens: int = 1024
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    json_schema: str | None = None
    logprobs: bool = False

    @property
    def greedy(self) -> bool:
        """Always the likeliest token; a seed changes nothing."""
        return self.temperature == 0


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One answer to make. `id` is unique among the requests in flight."""

    id: str
    messages: tuple[Mapping[str, Any], ...]
    token_ids: tuple[int, ...]
    params: SamplingParams
    seed: int | None = None
    tools: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer. `finish_reason` is `stop` (ended by itself) or `length` (cut off).

    `logprobs`: natural logarithms of the model's probability of each token, before temperature and
    filters, where they were asked for; `token_ids` come with them, the end token included.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    logprobs: tuple[float, ...] | None = None
    token_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What an engine is made from; travels to the machine that runs it.

    `use_gpu` is whether the cluster has GPUs; `threads` are those of an engine without one (None: all
    CPUs of its machine). `seeded` says that answers are drawn from seeds. `base_url` lists endpoints of
    equal worth; the limits a minute are this engine's share of the job's. `served_model` is the model's
    name at a deployment, where it is not `model`'s. `extra` holds an engine's own settings (`fake`: what
    to simulate; `vllm`: arguments of its `AsyncEngineArgs`).
    """

    model: str
    dtype: str = "auto"
    max_model_len: int | None = None
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    gpu_memory_utilization: float = 0.9
    enforce_eager: bool | None = None
    batch_invariant: bool = False
    trust_remote_code: bool = False
    use_gpu: bool = False
    threads: int | None = None
    seeded: bool = True
    concurrency: int | None = None
    base_url: tuple[str, ...] = ()
    serve_app: str | None = None
    served_model: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    max_retries: int = 5
    timeout: float = 600.0
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


class Engine(Protocol):
    """Generates; made inside the event loop it is used from."""

    async def generate(self, request: GenerationRequest) -> Completion:
        """One whole answer.

        Raises:
            RequestFailed: this request can't be answered; others still can.
            EngineDead: nothing can be answered any more.
        """
        ...

    def stream(self, request: GenerationRequest) -> AsyncIterator[str]:
        """The answer's text, piece by piece."""
        ...

    async def close(self) -> None:
        """Free what the engine holds, its processes included."""
        ...


class UpdatableEngine(Engine, Protocol):
    """An engine that stays up while its model is trained; nothing is in flight when it is told anything."""

    async def load_weights(self, folder: Path) -> None:
        """Take the weights of another model folder (safetensors) of the same shapes.

        What was computed with the old ones, such as cached prefixes, is forgotten.

        Raises:
            EngineDead: it can't, and is of no use any more.
        """
        ...

    async def sleep(self, level: int) -> None:
        """Give the GPU's memory to the trainer: weights move to the host (1) or are dropped (2)."""
        ...

    async def wake_up(self) -> None:
        """Take memory for the weights again, which are as they were (1) or have to be loaded (2)."""
        ...


class RequestFailed(AutoAlignError, RuntimeError):
    """One request failed. `retry` tells whether another try can help."""

    def __init__(self, message: str, retry: bool = True) -> None:
        super().__init__(message, retry)
        self.message, self.retry = message, retry

    def __str__(self) -> str:
        return self.message


class RequestRefused(RequestFailed):
    """The engine will never answer this request: it is too long for the model, for example."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retry=False)


class EngineDead(JobFailed):
    """The engine is gone, and the job with it."""


OPTIONAL = ("json_schema", "logprobs")


def require_support(backend: str, params: SamplingParams) -> None:
    """An engine's file names in `SUPPORTS` which of `OPTIONAL` it can do; nothing is started for this.

    Raises:
        UnknownName: there is no such engine.
        ConfigError: something is asked for that it can't do.
    """
    package = "autoalign.sampling.engines"
    for option in OPTIONAL:
        if not getattr(params, option) or option in _supports(package, backend):
            continue
        able = [name for name in plugins.names(package) if option in _supports(package, name)]
        raise ConfigError(f"the {backend} backend has no {option}; use {' or '.join(able)}")


def _supports(package: str, name: str) -> frozenset[str]:
    return getattr(plugins.load(package, name), "SUPPORTS", frozenset())


async def create_engine(backend: str, options: EngineOptions) -> Engine:
    """Make the engine named `backend` (a file of this folder).

    Raises:
        UnknownName: there is no such engine.
        MissingDependency: its library is not installed.
    """
    engine: Engine = await plugins.load("autoalign.sampling.engines", backend).create(options)
    return engine


def derive_seed(seed: int, prompt_id: str, index: int) -> int:
    """A seed for one answer that depends on nothing but these three.

    31 bits, since some OpenAI-style endpoints take no more.
    """
    digest = hashlib.sha256(f"{seed}\0{prompt_id}\0{index}".encode()).digest()
    return int.from_bytes(digest[:4], "big") & 0x7FFFFFFF
