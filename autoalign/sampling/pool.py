"""Engines as Ray actors, asked one request at a time.

For jobs whose next prompts depend on earlier answers; a file of prompts goes through `pipeline`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from types import TracebackType
from typing import Any, NamedTuple, Self

from autoalign.cluster import Cluster
from autoalign.errors import AutoAlignError, JobFailed
from autoalign.sampling import replicas
from autoalign.sampling.engines.base import (
    Completion,
    Engine,
    EngineOptions,
    GenerationRequest,
    RequestFailed,
    create_engine,
)
from autoalign.sampling.pipeline import failure
from autoalign.sampling.replicas import Replicas, actor_options, in_flight, on_cluster, require_room
from autoalign.sampling.waiting import Say, Waiting, told
from autoalign.sampling.worker import WorkerSpec

_TRIES = 2


class Outcome(NamedTuple):
    """What became of request `number`: a completion, or the reason why there is none."""

    number: int
    completion: Completion | None
    error: str | None


class EngineHost:
    """The actor: one engine on the actor's own event loop."""

    def __init__(self, backend: str, options: EngineOptions) -> None:
        self._backend, self._options = backend, options
        self._engine: Engine | None = None

    async def start(self) -> tuple[str, str] | None:
        """Make the engine; the name and the message of what went wrong, None when all is well."""
        try:
            self._engine = await create_engine(self._backend, self._options)
        except Exception as error:  # the boundary of the process
            known = isinstance(error, AutoAlignError)
            return type(error).__name__, str(error) if known else f"{type(error).__name__}: {error}"
        return None

    async def generate(self, request: GenerationRequest) -> Completion | str:
        """The completion, or why this request has none; a dead engine raises."""
        assert self._engine is not None
        error = ""
        for _ in range(_TRIES):
            try:
                return await self._engine.generate(request)
            except RequestFailed as failed:
                error = str(failed)
                if not failed.retry:
                    break
        return error


class EnginePool:
    """`num_replicas` engines on the cluster of an open `cluster.ray_session`; gone with the block.

    Args:
        threads: CPU threads of each engine without a GPU; None: a fair share.
        say: takes a line now and then on what is missing while engines have no place in the cluster.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        num_replicas: int,
        cluster: Cluster,
        threads: int | None = None,
        say: Say | None = None,
    ) -> None:
        self._pool = pool = Replicas(num_replicas, num_replicas)
        self._spec = on_cluster(spec, pool, cluster, threads)
        require_room(self._spec, pool, cluster)
        self._slots = in_flight(spec)
        self._hosts: list[Any] = []
        self._say = None if cluster.is_local else say  # a cluster of one's own has room
        self._held = ExitStack()

    def __enter__(self) -> Self:
        import ray

        host: Any = ray.remote(EngineHost)
        options = self._held.enter_context(actor_options(self._spec))
        placed = options.pop("ray_remote_args_fn", dict)
        for _ in range(self._pool.most):
            remote = host.options(**options, **placed(), max_concurrency=self._slots + 1)
            self._hosts.append(remote.remote(self._spec.backend, self._spec.options))
        try:
            with self._told():
                for problem in ray.get([host.start.remote() for host in self._hosts]):
                    if problem is not None:
                        raise failure(*problem)
        except BaseException:  # Ctrl-C too: the other engines are up
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[Outcome]:
        """Outcomes as they come; every engine has up to `concurrency` requests in flight.

        Raises:
            JobFailed: an engine died.
        """
        import ray
        from ray.exceptions import RayError

        waiting = deque(enumerate(requests))
        in_flight: dict[Any, tuple[int, int]] = {}
        load = [0] * len(self._hosts)
        try:
            while waiting or in_flight:
                while waiting and min(load) < self._slots:
                    number, request = waiting.popleft()
                    host = load.index(min(load))
                    load[host] += 1
                    in_flight[self._hosts[host].generate.remote(request)] = (number, host)
                (done,), _ = ray.wait(list(in_flight), num_returns=1)
                number, host = in_flight.pop(done)
                load[host] -= 1
                given = ray.get(done)
                yield Outcome(number, None, given) if isinstance(given, str) else Outcome(number, given, None)
        except RayError as error:
            reason = str(getattr(error, "cause", None) or error).strip().splitlines()[-1]
            raise JobFailed(f"an engine died: {reason}") from error

    def _told(self) -> AbstractContextManager[None]:
        """What says what the engines wait for, until all of them have a place."""
        import ray

        if self._say is None:
            return nullcontext()
        need = replicas.need(self._spec, self._pool)
        there = [host.__ray_ready__.remote() for host in self._hosts]
        parts = need.most // self._pool.most

        def placed() -> int:
            return parts * len(ray.wait(there, num_returns=len(there), timeout=0)[0])

        return told(Waiting(need, need.most, self._say), placed)

    def _end(self) -> None:
        import ray

        for host in self._hosts:
            with suppress(ValueError):  # a dead actor's handle
                ray.kill(host)
        self._hosts = []
        self._held.close()
