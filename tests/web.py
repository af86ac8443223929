"""A platform's HTTP API, as an ASGI application and behind a real socket."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI

from autoalign.jobs.platform import Platform
from autoalign.serving.access import RequireToken
from autoalign.serving.platform_routes import platform_routers
from autoalign.serving.submission import TemplateOf, no_template


def documented(platform: Platform, template_of: TemplateOf = no_template) -> FastAPI:
    """The application without its guard."""
    app = FastAPI()
    for router in platform_routers(platform, template_of):
        app.include_router(router)
    return app


def application(platform: Platform, template_of: TemplateOf = no_template) -> Any:
    """The application as an endpoint mounts it."""
    return RequireToken(
        documented(platform, template_of), platform.tokens, scopes={"/v1": "jobs", "/api": "jobs"}
    )


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """The application on a free port of this machine; gives its URL."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=30)
