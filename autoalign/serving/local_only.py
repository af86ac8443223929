"""Where there are no tokens: requests of this machine's programs alone, and no page of another site.

A browser sends any page's requests to 127.0.0.1. One whose name was made to point here (DNS rebinding) says
that name in `Host`; one of another site says where it is from in `Origin`, which comes with all but a GET.
"""

from __future__ import annotations

import re

from autoalign.config.serve import is_loopback
from autoalign.serving.access import ASGIApp, ASGIScope, Receive, refuse
from autoalign.serving.openai_error import Send

_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[^:]+)(:\d{1,5})?")


class LocalOnly:
    """ASGI middleware: 403 for a `Host` that is not this machine, or an `Origin` that is not the `Host`.

    Args:
        app: the application behind it.
        bound: the address that it listens on.
    """

    def __init__(self, app: ASGIApp, bound: str) -> None:
        self._app, self._bound = app, bound.strip("[]")

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._is_local(scope):
            await self._app(scope, receive, send)
        else:
            await refuse(scope, send, 403, "not_local", _NOT_LOCAL)

    def _is_local(self, scope: ASGIScope) -> bool:
        hosts, origins = _values(scope, b"host"), _values(scope, b"origin")
        if any(origin.partition("://")[2] not in hosts for origin in origins):
            return False
        # A request without Host is no browser's.
        return len(hosts) <= 1 and all(self._is_ours(host) for host in hosts)

    def _is_ours(self, host: str) -> bool:
        found = _HOST.fullmatch(host)
        return found is not None and (is_loopback(found["name"]) or found["name"].strip("[]") == self._bound)


_NOT_LOCAL = (
    "Without tokens only this machine is answered: 'Host' must be its loopback address or localhost, and a "
    "page of another origin gets nothing. For anything else start with --require_tokens."
)


def _values(scope: ASGIScope, wanted: bytes) -> list[str]:
    return [value.decode("latin-1").lower() for name, value in scope["headers"] if name.lower() == wanted]
