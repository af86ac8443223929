"""The other sides of the sampling benchmark: vLLM by itself, and Ray's own pipeline around it.

All get the token ids that our renderer makes (ray.data.llm the messages, which it renders by itself), the
same parameters, bfloat16 and no compilation.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from typing import Any

from benchmarks.sample_plan import Settings


def llm_generate(settings: Settings, n: int) -> dict[str, Any]:
    """`vllm.LLM.generate` as it comes; for n > 1 without seeds, with which it dies on a CPU."""
    _environment()
    from vllm import LLM

    llm = LLM(**_engine(settings))
    prompts: Any = [{"prompt_token_ids": ids} for ids in _ids(settings, n)]
    begun = time.perf_counter()
    outputs = llm.generate(prompts, _params(settings, n, None), use_tqdm=False)
    seconds = time.perf_counter() - begun
    return _figures(sum(len(answer.token_ids) for one in outputs for answer in one.outputs), seconds)


def async_llm(settings: Settings, n: int) -> dict[str, Any]:
    """All submitted at once, long prompts first; a thread on every CPU; short cache blocks."""
    _environment()
    cpus = sorted(os.sched_getaffinity(0))
    os.environ["OMP_NUM_THREADS"] = str(len(cpus))
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(map(str, cpus))
    return asyncio.run(_async_llm(settings, n))


async def _async_llm(settings: Settings, n: int) -> dict[str, Any]:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    tuned: dict[str, Any] = {"max_num_seqs": 256, "enable_chunked_prefill": n == 1, "block_size": 32}
    llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**_engine(settings), **tuned))
    first: list[float] = []

    async def ask(name: str, ids: list[int], seed: int) -> int:
        outputs: AsyncIterator[Any] = llm.generate(
            {"prompt_token_ids": ids}, _params(settings, 1, seed if n > 1 else None, n > 1), name
        )
        async for output in outputs:
            last = output
        first.append(time.perf_counter())
        return len(last.outputs[0].token_ids)

    ids = sorted(_ids(settings, n), key=len, reverse=True)
    begun = time.perf_counter()
    counts = await asyncio.gather(
        *(ask(f"{i}-{k}", one, i * n + k) for i, one in enumerate(ids) for k in range(n))
    )
    seconds = time.perf_counter() - begun
    llm.shutdown()
    return {**_figures(sum(counts), seconds), "first_answer": first[0] - begun}


def ray_data_llm(settings: Settings, n: int) -> dict[str, Any]:
    """`build_processor` with its default stages; the engine's start is taken off with a shorter run."""
    _environment()
    import ray

    # One CPU for each of its stages' actors, and one to read with: with fewer it never moves.
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False, object_store_memory=512 << 20)
    few, all_ = settings.rows // 8, settings.rows
    short, long = _through_ray(settings, few), _through_ray(settings, all_)
    return {**_figures(long[0] - short[0], long[1] - short[1]), "whole": long[1]}


def _through_ray(settings: Settings, rows: int) -> tuple[int, float]:
    import ray
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    config = vLLMEngineProcessorConfig(
        model_source=settings.model,
        engine_kwargs={**_engine(settings), "max_num_seqs": 256},
        placement_group_config={"bundles": [{"CPU": 1}]},
        batch_size=16,
        concurrency=1,
    )
    sampling = {"temperature": 0.0, "max_tokens": settings.max_tokens, "detokenize": False}
    processor = build_processor(
        config,
        preprocess=lambda row: {"messages": list(row["messages"]), "sampling_params": sampling},
        postprocess=lambda row: {"tokens": row["num_generated_tokens"]},
    )
    lines = settings.prompt_file.read_text(encoding="utf-8").splitlines()[:rows]
    begun = time.perf_counter()
    done = processor(ray.data.from_items([json.loads(line) for line in lines])).take_all()
    return sum(row["tokens"] for row in done), time.perf_counter() - begun


def _environment() -> None:
    os.environ |= {
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "VLLM_TARGET_DEVICE": "cpu",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    }


def _engine(settings: Settings) -> dict[str, Any]:
    return {
        "model": settings.model,
        "enforce_eager": True,
        "disable_log_stats": True,
        "generation_config": "vllm",
    }


def _params(settings: Settings, n: int, seed: int | None, random: bool = False) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        n=n,
        temperature=1.0 if n > 1 or random else 0.0,
        max_tokens=settings.max_tokens,
        seed=seed,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _ids(settings: Settings, n: int) -> list[list[int]]:
    lines = settings.ids_file.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[: settings.prompts(n)]]


def _figures(tokens: int, seconds: float) -> dict[str, Any]:
    return {"tokens": tokens, "seconds": seconds, "per_second": tokens / seconds}
