"""What every process that starts vLLM sets up before, and how it finds out why vLLM failed."""

from __future__ import annotations

import os
import re
from pathlib import Path

CPU_BLOCK = 32  # tokens; the least that vLLM's CPU attention is quick with
# vLLM takes about half the machine's memory on a CPU unless told otherwise.
_CPU_DEFAULTS = {"VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_TARGET_DEVICE": "cpu"}
_QUIET = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",  # a chat's answers are on stdout
    "VLLM_NO_USAGE_STATS": "1",
}
_LOG_TAIL = 1 << 17
_ERROR_LINE = re.compile(r"((?:\w+\.)*\w*(?:Error|Exception): .+)")


def prepare_environment(use_gpu: bool, batch_invariant: bool = False) -> None:
    """Set what vLLM reads from the environment; what the user has set stays.

    Args:
        batch_invariant: a text must not depend on which others are made at the same time; of use on a GPU.
    """
    for key, value in {**_QUIET, **({} if use_gpu else _CPU_DEFAULTS)}.items():
        os.environ.setdefault(key, value)
    if use_gpu and batch_invariant:
        os.environ["VLLM_BATCH_INVARIANT"] = "1"
    # A forked engine core would share this process's memory map and the guard's pipe.
    os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"


def root_cause() -> str | None:
    """The last error that the engine core wrote: what vLLM raises only says to look for it above.

    Inside a Ray actor both processes write to the actor's log file.
    """
    log = Path("/proc/self/fd/2").resolve()
    if not log.is_file():
        return None
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LOG_TAIL))
        lines = file.read().decode(errors="replace").splitlines()
    errors = [found[1] for line in lines if (found := _ERROR_LINE.search(line))]
    told = [error for error in errors if "root cause" not in error]
    return told[-1] if told else None
