"""A valid token is looked up once a second, not once a request."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable

from autoalign.principals import Principal, TokenBook

_SECONDS = 1.0  # a revoked token opens for so long at most
_MOST = 10_000


class TokenCache:
    """Bearers of the tokens that were valid a moment ago, by the tokens' SHA-256.

    A token that is not valid is looked up each time, so that a flood of made-up ones fills no memory, and
    a new one opens at once.
    """

    def __init__(self, book: TokenBook, clock: Callable[[], float] = time.monotonic) -> None:
        self._book, self._clock = book, clock
        self._known: dict[bytes, tuple[float, Principal]] = {}

    async def find(self, token: str) -> Principal | None:
        """The bearer of a valid token.

        Raises:
            TokensUnavailable: it can't be known now.
        """
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        known = self._known.get(digest)
        if known is not None and self._clock() - known[0] < _SECONDS:
            return known[1]
        asked = self._clock()
        principal = await asyncio.to_thread(self._book.find, token)
        if principal is None:
            self._known.pop(digest, None)
            return None
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[digest] = (asked, principal)
        return principal
