"""Who may ask: every request needs a token, but for a few paths that are open.

The check looks at the ASGI scope, never at a URL built from `Host`. A path is open when both its
decoded form and the very bytes of the request line equal an open path, so a trailing slash, a double
slash or a percent sign never opens anything.
"""

from __future__ import annotations

import posixpath
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, Protocol

from autoalign.principals import EVERYBODY, SCOPES, Principal, TokenBook, TokensUnavailable
from autoalign.serving.openai_error import Send, error_body, send_error
from autoalign.serving.token_cache import TokenCache

__all__ = [
    "EVERYBODY",
    "OPEN_PATHS",
    "SCOPES",
    "Principal",
    "RequireToken",
    "TokenBook",
    "principal_of",
    "refuse",
]

OPEN_PATHS = ("/healthz", "/readyz")
PRINCIPAL = "autoalign.principal"  # its key in the ASGI scope
_POLICY_VIOLATION = 1008

ASGIScope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
ASGIApp = Callable[[ASGIScope, Receive, Send], Awaitable[None]]


class _HasScope(Protocol):
    @property
    def scope(self) -> MutableMapping[str, Any]: ...


def principal_of(request: _HasScope) -> Principal:
    """Who sent a Starlette request that came through `RequireToken`.

    Raises:
        KeyError: the request came past the middleware, which is a fault of the application.
    """
    principal: Principal = request.scope[PRINCIPAL]
    return principal


class RequireToken:
    """ASGI middleware: 401 without a valid token, 403 without the path's scope, 503 while none is known.

    Args:
        app: the application behind it.
        book: where tokens are looked up; None: tokens are off, and everybody may do everything.
        open_paths: exact paths that need no token.
        scopes: from a path's prefix (whole segments) to the scope it needs; the longest prefix
            counts. A path under none of them needs a valid token of any scope.
        login: answers, with 401 too, a browser that asks for `/`: the page where a token is entered.
    """

    def __init__(
        self,
        app: ASGIApp,
        book: TokenBook | None,
        open_paths: Iterable[str] = OPEN_PATHS,
        scopes: Mapping[str, str] | None = None,
        login: ASGIApp | None = None,
    ) -> None:
        self._app, self._login = app, login
        self._tokens = None if book is None else TokenCache(book)
        self._open = frozenset(open_paths)
        by_length = sorted((scopes or {}).items(), key=lambda item: -len(item[0]))
        self._scopes = [(prefix.rstrip("/"), scope) for prefix, scope in by_length]

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._is_open(scope):
            await self._app(scope, receive, send)
            return
        try:
            principal = await self._principal(scope)
        except TokensUnavailable as error:
            await refuse(scope, send, 503, "unavailable", str(error))
            return
        if principal is None and self._login is not None and _is_browser_at_the_door(scope):
            await self._login(scope, receive, send)
            return
        if principal is None:
            await refuse(scope, send, 401, "invalid_api_key", _NO_TOKEN)
            return
        missing = self._missing_scope(scope["path"], principal)
        if missing is not None:
            message = f"This token lacks the scope '{missing}', which {scope['path']} needs."
            await refuse(scope, send, 403, "missing_scope", message)
            return
        scope[PRINCIPAL] = principal
        await self._app(scope, receive, send)

    def _is_open(self, scope: ASGIScope) -> bool:
        path: str = scope["path"]
        raw: bytes | None = scope.get("raw_path")
        return scope["type"] == "http" and path in self._open and raw in (None, path.encode())

    async def _principal(self, scope: ASGIScope) -> Principal | None:
        if self._tokens is None:
            return EVERYBODY
        token = _bearer_token(scope)
        return None if token is None else await self._tokens.find(token)

    def _missing_scope(self, path: str, principal: Principal) -> str | None:
        """The scope that the path needs and the token lacks; `//x/../y` counts as `/y`."""
        plain = "/" + posixpath.normpath(path).lstrip("/")
        for prefix, scope in self._scopes:
            if plain == prefix or plain.startswith(f"{prefix}/"):
                return None if principal.may(scope) else scope
        return None


def _is_browser_at_the_door(scope: ASGIScope) -> bool:
    """Whether a browser opens `/`; one that sends a token gets told in JSON that it is wrong."""
    headers = dict(scope["headers"])
    is_page = scope["type"] == "http" and scope["method"] == "GET" and scope["path"] == "/"
    return is_page and b"text/html" in headers.get(b"accept", b"") and b"authorization" not in headers


_NO_TOKEN = "A valid token is needed: send the header 'Authorization: Bearer TOKEN'."  # noqa: S105


def _bearer_token(scope: ASGIScope) -> str | None:
    """The token of the one Authorization header; two of them name nobody."""
    given = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
    if len(given) != 1:
        return None
    kind, _, token = given[0].decode("latin-1").partition(" ")
    return token.strip() or None if kind.lower() == "bearer" else None


async def refuse(scope: ASGIScope, send: Send, status: int, code: str, message: str) -> None:
    """The answer to what is not let in; a websocket is closed."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": code})
        return
    headers = {"www-authenticate": "Bearer"} if status == 401 else {}
    await send_error(send, status, error_body(message, code=code), headers)
