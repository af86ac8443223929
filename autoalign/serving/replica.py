"""The Ray Serve deployment that holds one engine and answers over a socket of its own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

from autoalign.errors import JobFailed
from autoalign.orphans import dismiss, guard_children
from autoalign.sampling.cpu_cores import Cores, bound
from autoalign.serving import engine
from autoalign.serving.engine_log import EngineLog
from autoalign.serving.http_server import HttpServer, bind
from autoalign.serving.leases import Grant, LeasedOnly, Leases
from autoalign.serving.placement import Adapter
from autoalign.serving.serve_log import join_serve_log
from autoalign.serving.spec import EngineSpec

_PATIENCE = 30.0  # seconds that a lease waits for a request: a gateway that died gives nothing back


class EngineReplica:
    """One engine. Ray Serve brings leases; the requests themselves come over the socket."""

    async def __init__(self, spec: EngineSpec) -> None:  # type: ignore[misc]  # Ray Serve awaits it
        import ray

        join_serve_log()
        # Ray sets it to the actor's CPUs; an engine gets all cores, as it does outside of Ray.
        os.environ.pop("OMP_NUM_THREADS", None)
        self._spec, self._leases = spec, Leases()
        self._guard = guard_children()
        self._cores = None if spec.use_gpu or not spec.is_one_rank else Cores()
        with bound(self._cores):
            self._engine = await engine.start(spec)
        app = LeasedOnly(EngineLog(self._engine.app), self._leases)
        self._server = HttpServer(app, bind(ray.util.get_node_ip_address(), 0))

    async def check_health(self) -> None:
        """Ray Serve starts another replica in place of one that raises.

        Raises:
            JobFailed: the engine is dead.
        """
        if self._engine.errored:
            raise JobFailed(f"the engine of {self._spec.model} died")

    async def lease(self, adapter: Adapter | None = None) -> AsyncIterator[Grant]:
        """One grant; the stream stays open until it is given back.

        Args:
            adapter: the LoRA adapter to answer with.
        """
        template = None
        if adapter is not None:
            await self._engine.load_adapter(adapter)
            template = _chat_template(Path(adapter.folder))
        lease = self._leases.new()
        try:
            yield Grant(
                url=self._server.url,
                lease=lease.id,
                model=adapter.id if adapter is not None else self._spec.model,
                stop=self._engine.stop,
                stop_token_ids=self._engine.stop_token_ids,
                chat_template=template,
            )
            await lease.over(_PATIENCE)
        finally:
            self._leases.end(lease)

    async def __del__(self) -> None:
        if hasattr(self, "_server"):
            await self._server.close()
            self._engine.close()
            dismiss(self._guard)
            if self._cores is not None:
                self._cores.release()


def _chat_template(adapter: Path) -> str | None:
    """The one that an adapter was trained with."""
    path = adapter / "chat_template.jinja"
    return path.read_text(encoding="utf-8") if path.is_file() else None
