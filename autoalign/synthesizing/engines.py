"""The engines behind a writer: started for a while, and what tells their texts apart."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from autoalign import manifest
from autoalign.cluster import Cluster, ray_session
from autoalign.config.synthesize import SynthesizeConfig
from autoalign.sampling.pool import EnginePool
from autoalign.sampling.setup import Setup
from autoalign.sampling.stopping import stop_signals
from autoalign.sampling.worker import WorkerSpec
from autoalign.synthesizing.writer import Engines


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def start(
    config: SynthesizeConfig, setup: Setup, stack: ExitStack, say: Callable[[str], None] = _to_stderr
) -> Engines:
    """Engines that are gone when `stack` is closed.

    Args:
        say: takes a line now and then on what is missing while the cluster has no room for them.
    """
    cluster = stack.enter_context(ray_session(config.ray_address, config.max_replicas + 1))
    # Again, since Ray's own handler has taken the place of ours.
    stack.enter_context(stop_signals())
    spec = WorkerSpec(config.backend, setup.options, setup.params, config.seed)
    # The next questions follow from earlier answers: engines that come later would find little to do.
    pool = EnginePool(spec, config.max_replicas, cluster, config.cpus_per_replica, say)
    return stack.enter_context(pool)


def session(config: SynthesizeConfig, models: int) -> AbstractContextManager[Cluster]:
    """One Ray session under the engines of `models` models, which may then end in any order."""
    return ray_session(config.ray_address, models * (config.max_replicas + 1))


def identity(config: SynthesizeConfig, setup: Setup) -> str:
    """What the texts depend on apart from the prompts and the sampling parameters; not on where it runs."""
    if config.backend == "openai":
        return f"openai {setup.options.model}"
    return f"{config.backend} {setup.options.dtype} {manifest.text_digest(Path(setup.options.model))}"
