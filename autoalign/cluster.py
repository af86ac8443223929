"""Ray for the length of a job: a cluster that is there, or a quiet one of its own."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from autoalign import orphans
from autoalign.errors import ConfigError

_OBJECT_STORE_BYTES = 512 << 20
_PATIENCE = 5.0  # seconds that Ray's processes get to end by themselves


class Cluster(NamedTuple):
    """What the Ray cluster has."""

    cpus: float
    gpus: float
    is_local: bool

    @property
    def real_cpus(self) -> float:
        """CPUs that there are; a cluster of one's own may offer more, so that every actor finds one."""
        return len(os.sched_getaffinity(0)) if self.is_local else self.cpus


def is_up() -> bool:
    """Whether this process has joined a cluster; without the time that importing Ray takes."""
    return "ray" in sys.modules and sys.modules["ray"].is_initialized()


@contextmanager
def ray_session(address: str | None = None, min_cpus: int = 1) -> Iterator[Cluster]:
    """The cluster at `address` or RAY_ADDRESS, else one of this job's own, ended with it.

    A session that the caller has opened is used and left open.

    Args:
        min_cpus: logical CPUs that a cluster of one's own offers at least, so that a laptop
            can host any number of actors.

    Raises:
        ConfigError: no cluster answers at the address.
    """
    import ray

    mine = not ray.is_initialized()
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    with ExitStack() as ending:
        if mine and address == "local":
            ending.enter_context(_nothing_left(address, min_cpus))
        elif mine:
            _init(address, min_cpus)
            ending.callback(ray.shutdown)
        resources = ray.cluster_resources()
        yield Cluster(resources.get("CPU", 0.0), resources.get("GPU", 0.0), mine and address == "local")


@contextmanager
def _nothing_left(address: str, min_cpus: int) -> Iterator[None]:
    """A cluster in processes of this one's own: none of them is left, however this process ends."""
    import ray

    guard = orphans.guard_children()
    others = orphans.children()
    try:
        _init(address, min_cpus)
        yield
    finally:
        roots = [child for child in orphans.children() if child not in others]
        family = orphans.family_of(roots)
        ray.shutdown()
        orphans.end(family, _PATIENCE)
        orphans.dismiss(guard)


def _init(address: str, min_cpus: int) -> None:
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Ray's C++ side warns on stderr of what Ray Data does by itself.
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        # Ray starts workers at nice 15: on a machine that does anything else, training starves.
        os.environ.setdefault("RAY_worker_niceness", "0")
        quiet |= {
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE_BYTES,
            "num_cpus": max(os.cpu_count() or 1, min_cpus),
        }
    try:
        with _native_stderr_closed():
            ray.init(address=address, **quiet)
    except (ConnectionError, ValueError) as error:
        raise ConfigError(f"no Ray cluster answers at {address}: {error}") from error


@contextmanager
def _native_stderr_closed() -> Iterator[None]:
    """Ray's C++ side says on stderr that it was told to be quiet; Python still raises what it raises."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
