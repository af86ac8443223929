"""The name of an answer in the ledger: what it is made from, and nothing else.

Two runs give an answer the same key when model, engine, parameters, prompt and index are the same. How
it is made (replicas, requests in flight, GPUs, which URL) is no part of it; neither is the prompt's place
in its file. A greedy answer depends on no seed, so its key holds none.
"""

from __future__ import annotations

import json
import struct
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson

from autoalign import manifest
from autoalign.sampling.engines.base import EngineOptions, SamplingParams, derive_seed
from autoalign.sampling.prompts import Prompt
from autoalign.sampling.simulator import UserSimulator
from autoalign.sampling.worker import WorkerSpec

SIZE = 16  # bytes
_JOB_SIZE = 4
# Fields of EngineOptions that change how an answer is made, not which one.
_HOW = {
    "model", "tensor_parallel_size", "pipeline_parallel_size", "gpu_memory_utilization", "enforce_eager",
    "batch_invariant", "trust_remote_code", "use_gpu", "threads", "seeded", "concurrency", "base_url",
    "api_key_env", "max_retries", "timeout",
    "requests_per_minute", "tokens_per_minute", "serve_app", "served_model", "extra",
}  # fmt: skip
# A dataclass is what its repr tells: orjson would look into it, at what is no part of an answer too.
_OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS
_LENGTH = struct.Struct("<Q").pack
_OF_EACH = {"options", "params", "seed", "sweep"}


@dataclass(frozen=True)
class AnswerKeys:
    """Makes the keys of one job; a key ends in 4 bytes that all answers of the job share.

    Attributes:
        job: digest of the model, the engine and its options.
        ways: the parameters of each way to answer.
        seed: the job's.
        several_turns: somebody speaks between the answers, by a seed that a greedy answer needs too.
    """

    job: bytes = bytes(32)
    ways: tuple[SamplingParams, ...] = (SamplingParams(),)
    seed: int = 42
    several_turns: bool = False

    @classmethod
    def of_job(cls, spec: WorkerSpec, split_reasoning: bool = False) -> AnswerKeys:
        """`spec.options.model` is a model folder, or the model's id at an endpoint.

        Raises:
            ModelError: a folder without weights.
        """
        what: dict[str, Any] = {"model": _model(spec), "split_reasoning": split_reasoning}
        what |= {f.name: getattr(spec.options, f.name) for f in fields(EngineOptions) if f.name not in _HOW}
        what |= {f.name: getattr(spec, f.name) for f in fields(spec) if f.name not in _OF_EACH}
        if spec.options.batch_invariant:
            what["batch_invariant"] = True  # named where it is set alone: keys of before stay
        if spec.turns is not None:
            what["user_model"] = _user_model(spec.turns.user)
        return cls(
            _digest([_canonical(what)], 32), spec.sweep or (spec.params,), spec.seed, spec.turns is not None
        )

    def key(self, prompt: Prompt, index: int) -> bytes:
        """The key of answer `index` of a prompt, 16 bytes."""
        seedless, begins = self._of_ways[prompt.variant or 0]
        seed = b"" if seedless else str(derive_seed(self.seed, prompt.id, index)).encode()
        parts = _framed((_content(prompt), str(index).encode(), seed))
        return blake2b(begins + parts, digest_size=SIZE - _JOB_SIZE).digest() + self.job[:_JOB_SIZE]

    def refused_key(self, messages: Sequence[Mapping[str, Any]]) -> bytes:
        """The key of a prompt that can't be asked."""
        parts = _framed((self.job, _canonical(messages)))
        return blake2b(parts, digest_size=SIZE - _JOB_SIZE).digest() + self.job[:_JOB_SIZE]

    def is_of_job(self, key: bytes) -> bool:
        """Whether a key was made with this model, engine and options."""
        return key[-_JOB_SIZE:] == self.job[:_JOB_SIZE]

    @cached_property
    def _of_ways(self) -> tuple[tuple[bool, bytes], ...]:
        """Of each way whether its keys hold no seed, and what they are digests of at their beginning."""
        return tuple((way.greedy and not self.several_turns, self._beginning(way)) for way in self.ways)

    def _beginning(self, way: SamplingParams) -> bytes:
        return _framed((self.job, _digest([_canonical(asdict(way))], 16)))


def _model(spec: WorkerSpec) -> list[str | None]:
    """Its weights' digest where they are here, its name where somebody else runs it."""
    if spec.backend == "openai":
        return [spec.options.model]
    served = [spec.options.served_model] if spec.backend == "serve" else []
    return [manifest.model_digest(Path(spec.options.model)), *served]


def _user_model(user: UserSimulator) -> str | None:
    """The same of the model that speaks as the user; None: the answers' own."""
    if user.model is None or user.backend == "openai":
        return user.model
    return manifest.model_digest(Path(user.model))


def _content(prompt: Prompt) -> bytes:
    """What the engine is fed: token ids; messages where the endpoint renders them."""
    if prompt.token_ids:
        return array("q", prompt.token_ids).tobytes()
    return _canonical([prompt.messages, prompt.tools])


def _canonical(value: Any) -> bytes:
    try:
        return orjson.dumps(value, default=str, option=_OPTIONS)
    except TypeError:  # it is strict about surrogates, and about integers beyond 64 bits
        return json.dumps(value, sort_keys=True, default=str).encode()


def _digest(parts: Iterable[bytes], size: int) -> bytes:
    return blake2b(_framed(parts), digest_size=size).digest()


def _framed(parts: Iterable[bytes]) -> bytes:
    """The parts, each behind its length, so that no two lists of them are the same bytes."""
    return b"".join([_LENGTH(len(part)) + part for part in parts])
