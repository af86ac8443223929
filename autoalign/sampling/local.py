"""One engine in this process, without Ray: a laptop, or a machine whose GPUs one engine takes.

Ray's processes take about 5% of two CPUs even when they have nothing to do, and seconds to start. What an
engine does, and what becomes of an answer, is the same as on a cluster: `worker.EngineWorker`.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path

from autoalign.cluster import Cluster
from autoalign.errors import AutoAlignError, JobFailed
from autoalign.sampling.messages import Message
from autoalign.sampling.pipeline import Tasks
from autoalign.sampling.replicas import in_flight
from autoalign.sampling.worker import EngineWorker, WorkerSpec

AHEAD = 2  # times what the engine works on together: the next ones wait inside it


@contextmanager
def this_machine() -> Iterator[Cluster]:
    """What this machine has; until the block ends, what is not Python's own to say goes to a log.

    The engine's processes inherit the log as their stderr: what they print when they fail is for
    `vllm_process.root_cause` to read, and the user gets one message.
    """
    import torch

    cluster = Cluster(len(os.sched_getaffinity(0)), torch.cuda.device_count(), is_local=True)
    with (
        tempfile.TemporaryDirectory(prefix="autoalign-engine-") as folder,
        _native_stderr_in(Path(folder) / "engine.log"),
    ):
        yield cluster


def reports(tasks: Tasks, spec: WorkerSpec) -> Generator[Message, None, None]:
    """Run `tasks` through one engine; as `pipeline.reports`, whose messages these are.

    Raises:
        InputError: the engine refuses its settings.
        JobFailed: it can't start, or died.
    """
    wanted = ((prompt, index) for prompt, indices in tasks.prompts for index in indices)
    at_work, most = 0, AHEAD * in_flight(spec)
    with closing(EngineWorker(spec)) as worker, _errors_told():
        worker.wait_until_ready()
        box = worker.mailbox()
        while True:
            more = list(islice(wanted, most - at_work))
            worker.submit(more, box)
            at_work += len(more)
            if not at_work:
                return
            answers = box.take().answers
            at_work -= len(answers)
            yield Message(answers, replica=worker.name, in_flight=at_work)


@contextmanager
def _errors_told() -> Iterator[None]:
    try:
        yield
    except AutoAlignError:
        raise
    except Exception as error:  # the boundary of the engine: vLLM raises what it likes
        raise JobFailed(f"{type(error).__name__}: {error}") from error


@contextmanager
def _native_stderr_in(log: Path) -> Iterator[None]:
    sys.stderr.flush()
    kept, before = os.dup(2), sys.stderr
    with log.open("ab") as file, os.fdopen(os.dup(2), "w", buffering=1) as terminal:
        os.dup2(file.fileno(), 2)
        if before.isatty() or before.fileno() == 2:
            sys.stderr = terminal
        try:
            yield
        finally:
            sys.stderr = before
            os.dup2(kept, 2)
            os.close(kept)
