"""What a job samples with: engine options, parameters, requests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from autoalign import chat, model_folder
from autoalign.config.grpo import GRPOConfig
from autoalign.errors import ConfigError
from autoalign.reinforcement.sampler import EngineThread, Sampler
from autoalign.sampling.engines.base import EngineOptions, GenerationRequest, SamplingParams
from autoalign.sampling.prompts import Prompt
from autoalign.sampling.renderer import ChatRenderer
from autoalign.training.task import TrainTask
from autoalign.training.world import World


def renderer(config: GRPOConfig, model_path: str, template: str | None) -> ChatRenderer:
    """What renders the job's prompts, as serving will."""
    return ChatRenderer(Path(model_path), template, None, config.trust_remote_code)


def model_bytes(task: TrainTask) -> int:
    """Size of the model's weights on disk."""
    return sum(path.stat().st_size for path in Path(task.model_path).glob("*.safetensors"))


def sampling_params(task: TrainTask) -> SamplingParams:
    """The whole distribution at `temperature`: what the loss looks at, nothing cut off."""
    config = task.config
    assert isinstance(config, GRPOConfig)
    tokenizer = model_folder.load_tokenizer(task.model_path, config.trust_remote_code)
    ends = chat.stop_token_ids(task.template, tokenizer)
    own = tokenizer.eos_token_id
    return SamplingParams(
        temperature=config.temperature,
        max_new_tokens=config.max_completion_length,
        stop_token_ids=tuple(dict.fromkeys([*ends, *([] if own is None else [own])])),
        logprobs=True,
    )


def greedy(params: SamplingParams) -> SamplingParams:
    """The likeliest answer."""
    return replace(params, temperature=0.0)


def request(name: str, prompt: Prompt, params: SamplingParams, seed: int) -> GenerationRequest:
    """One answer to a prompt."""
    return GenerationRequest(name, prompt.messages, prompt.token_ids, params, seed, prompt.tools)


def sampler(config: GRPOConfig, task: TrainTask, world: World) -> Sampler:
    """The engine, up with the model that the job starts from.

    Raises:
        ConfigError: `sleep_level` without a GPU.
        MissingDependency: its library is not installed.
    """
    on_gpu = world.device.type == "cuda"
    if config.sleep_level and not on_gpu:
        raise ConfigError("'sleep_level' needs a GPU: on a CPU trainer and engine share the memory anyway")
    extra: dict[str, Any] = {}
    if config.backend == "vllm":
        # Of the distribution that answers are drawn from, temperature and all: that of the loss.
        extra = {"logprobs_mode": "processed_logprobs", "enable_sleep_mode": config.sleep_level > 0}
    context = model_folder.context_length(Path(task.model_path))
    length = min(config.model_max_length, context or config.model_max_length)
    options = EngineOptions(
        task.model_path,
        dtype="bfloat16" if config.bf16 else "float32",
        max_model_len=length,
        tensor_parallel_size=config.tensor_parallel_size,
        gpu_memory_utilization=config.gpu_memory_utilization,
        enforce_eager=config.enforce_eager,
        trust_remote_code=config.trust_remote_code,
        use_gpu=on_gpu,
        threads=config.cpus_per_worker,
        concurrency=None if config.backend == "vllm" else 64,
        extra=extra,
    )
    return EngineThread(config.backend, options)
