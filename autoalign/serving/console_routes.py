"""The console: its page at `/`, the modules behind the page, and who a token is.

No cookie is set and none is read, so there is nothing that another site's request could carry along:
each request of the console names its token in the Authorization header, as any client does. A
browser's first GET of `/` can't do that. Its answer is 401, and the page that asks for the token is
that answer's body: plain HTML without any data. The page fetches the console's modules with the token.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from autoalign.serving.access import principal_of
from autoalign.serving.api_route import ApiRoute, documented

_FOLDER = Path(__file__).with_name("console")
_KINDS = (".js", ".css")


class Bearer(BaseModel):
    """Whose token this is, and what it may do."""

    object: Literal["bearer"] = "bearer"
    name: str
    scopes: list[str]


def page(status: int = 200) -> Response:
    """The page that logs in and starts the console.

    Args:
        status: 401 where it is the answer to a request without a token.
    """
    text = (_FOLDER / "index.html").read_text(encoding="utf-8")
    headers = {
        "Content-Security-Policy": _policy(text),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(text, status, headers, media_type="text/html")


def console_router() -> APIRouter:
    """The routes of the console itself. They expect `RequireToken` around the application."""
    router = APIRouter(tags=["console"], route_class=ApiRoute)

    @router.get("/", include_in_schema=False)
    def index() -> Response:
        return page()

    @router.get("/console/files", include_in_schema=False)
    def files() -> Response:
        """All modules and style sheets by name: one request, and no path that a request could choose."""
        found = sorted(path for path in _FOLDER.iterdir() if path.suffix in _KINDS)
        return JSONResponse({path.name: path.read_text(encoding="utf-8") for path in found})

    @router.get("/whoami", summary="whose token this is", responses=documented())
    def whoami(request: Request) -> Bearer:
        principal = principal_of(request)
        return Bearer(name=principal.name, scopes=sorted(principal.scopes))

    return router


def _policy(text: str) -> str:
    """A Content-Security-Policy: the page's own script and style, and modules made from fetched text.

    Trusted Types make the browser refuse every assignment of text as HTML.
    """
    script, style = _hash(text, "script"), _hash(text, "style")
    return (
        f"default-src 'none'; script-src {script} blob:; style-src {style}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'"
    )


def _hash(text: str, tag: str) -> str:
    found = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    assert found is not None
    return f"'sha256-{base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()}'"
