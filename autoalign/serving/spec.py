"""What an engine is started with."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from autoalign.config.serve import ServeConfig
from autoalign.serving.catalogue import Served


@dataclass(frozen=True)
class EngineSpec:
    """One loaded model; travels to the machine that runs it.

    Args:
        backend: the engine's kind: a file in `served/`.
        model: its id at the endpoint.
        digest: tells one state of the folder, and of these settings, from another.
        template: a chat template's name or file; None: the folder's own.
        lora: whether adapters can be loaded beside it.
        flags: flags of vLLM's server, for that backend.
    """

    backend: str
    model: str
    folder: str
    digest: str
    template: str | None
    use_gpu: bool
    lora: bool
    trust_remote_code: bool
    flags: tuple[str, ...]

    @property
    def is_one_rank(self) -> bool:
        """Whether one process computes, by vLLM's flags."""
        ranks = re.compile("-(-(tensor|pipeline|data|context)-parallel-size|tp|pp|dp)")
        return all(flag == "--tensor-parallel-size=1" for flag in self.flags if ranks.match(flag))

    @property
    def app_name(self) -> str:
        """The Ray Serve application that runs it."""
        return f"engine-{re.sub('[^a-z0-9]+', '-', self.model.lower())}-{self.digest[:12]}"


def is_engine(app_name: str) -> bool:
    """Whether a Ray Serve application is called as an engine's is."""
    return re.fullmatch("engine-[a-z0-9-]+-[0-9a-f]{12}", app_name) is not None


def engine_spec(config: ServeConfig, served: Served, lora: bool, use_gpu: bool) -> EngineSpec:
    """The engine of a base model, as the config wants it."""
    flags = tuple(_flags(config, lora, use_gpu))
    settings = [config.backend, use_gpu, lora, flags, *(getattr(config, key) for key in _DEPLOYED_WITH)]
    state = repr([served.id, served.digest, *settings])
    return EngineSpec(
        backend=config.backend,
        model=served.id,
        folder=str(served.folder),
        digest=hashlib.sha256(state.encode("utf-8", "surrogatepass")).hexdigest(),
        template=served.template,
        use_gpu=use_gpu,
        lora=lora,
        trust_remote_code=config.trust_remote_code,
        flags=flags,
    )


# The keys beside the flags that an engine's application is deployed with (serve_launcher.engine_application).
_DEPLOYED_WITH = (
    *("min_replicas", "max_replicas", "target_in_flight"),
    *("max_in_flight", "max_queued", "cpus_per_replica"),
)


def _flags(config: ServeConfig, lora: bool, use_gpu: bool) -> list[str]:
    flags = [f"--dtype={config.dtype}", f"--tensor-parallel-size={config.tensor_parallel_size}"]
    if config.max_model_len is not None:
        flags.append(f"--max-model-len={config.max_model_len}")
    if not use_gpu if config.enforce_eager is None else config.enforce_eager:
        flags.append("--enforce-eager")
    if config.trust_remote_code:
        flags.append("--trust-remote-code")
    if use_gpu:
        flags.append(f"--gpu-memory-utilization={config.gpu_memory_utilization}")
    else:
        # vLLM 0.29 dies of a seeded request whose prompt it splits (see sampling/engines/vllm.py).
        flags.append("--no-enable-chunked-prefill")
    if lora:
        flags += ["--enable-lora", f"--max-loras={config.max_loras}"]
        flags += [f"--max-lora-rank={config.max_lora_rank}"]
    if config.tool_call_parser is not None:
        flags += ["--enable-auto-tool-choice", f"--tool-call-parser={config.tool_call_parser}"]
    return [*flags, *config.engine_args]
