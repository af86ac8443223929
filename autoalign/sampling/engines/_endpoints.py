"""Calls to one or several OpenAI-style URLs that are worth the same: load, limits, tries.

A URL that does not answer is left out and tried again later; the wait grows. `Retry-After` is honoured.
The key comes from the environment, and is cut out of whatever an endpoint says.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

from autoalign.errors import ConfigError, MissingDependency
from autoalign.sampling.engines._pace import Pace, backoff
from autoalign.sampling.engines._spread import Place, least_loaded
from autoalign.sampling.engines.base import EngineDead, EngineOptions, RequestFailed, RequestRefused

DEFAULT_CONCURRENCY = 32
# 401, 403 and 404 hold for every request alike, but for a server that has answered before.
_WRONG_ENDPOINT = frozenset({401, 403, 404})
_AGAIN = frozenset({408, 409, 425, 429})
_OVERLOADED = frozenset({502, 503, 504})
_Response = TypeVar("_Response")


class Endpoints:
    """Clients of the openai library, one a URL; used from one event loop.

    Args:
        urls: none: the client's own default, OPENAI_BASE_URL or OpenAI's.

    Raises:
        ConfigError: neither a key nor a URL.
        MissingDependency: the client library is not installed.
    """

    def __init__(self, options: EngineOptions, urls: Sequence[str]) -> None:
        try:
            import openai
        except ImportError as error:
            raise MissingDependency("asking an endpoint needs: pip install openai") from error
        self._errors = openai
        self._key = os.environ.get(options.api_key_env) or ""
        if not self._key and not urls and "OPENAI_BASE_URL" not in os.environ:
            raise ConfigError(
                f"no API key: set the environment variable {options.api_key_env}, or give --base_url"
            )
        self._max_retries, self._timeout = options.max_retries, options.timeout
        clients = [self._client(url) for url in urls] or [self._client(None)]
        self._places = [Place(_shown(str(client.base_url)), client) for client in clients]
        self._slots = asyncio.Semaphore(options.concurrency or DEFAULT_CONCURRENCY)
        self._requests = Pace(options.requests_per_minute)
        self._tokens = Pace(options.tokens_per_minute)

    async def call(
        self,
        send: Callable[[Any], Awaitable[_Response]],
        booked: int,
        used: Callable[[_Response], int] | None = None,
    ) -> _Response:
        """Send one request, again where that can help.

        Args:
            send: makes the call with the client it is given.
            booked: tokens that count against the limit until the answer is there.
            used: the tokens that it took in the end.

        Raises:
            RequestFailed: this request is refused, or failed `max_retries` times more than once.
            EngineDead: no request can be answered: wrong key, no such model, nothing there.
        """
        async with self._slots:
            failed: Place | None = None
            for attempt in range(self._max_retries + 1):
                await self._wait_for_limits(booked)
                place = await self._free_place(failed, attempt)
                try:
                    with _counted(place):
                        response = await send(place.client)
                except self._errors.APIError as error:
                    self._tokens.give_back(booked)
                    self._note(place, error, attempt == self._max_retries)
                    failed = place
                    continue
                place.answered()
                if used is not None:
                    self._tokens.give_back(booked - used(response))
                return response
        raise AssertionError("the last attempt returns or raises")

    async def close(self) -> None:
        """Close the connections."""
        for place in self._places:
            await place.client.close()

    def _client(self, url: str | None) -> Any:
        return self._errors.AsyncOpenAI(
            # Local servers want none, but the client refuses to be made without a key.
            api_key=self._key or "none",
            base_url=url,
            max_retries=0,
            timeout=self._timeout,
        )

    async def _free_place(self, failed: Place | None, attempt: int) -> Place:
        """Waits while every URL rests; once each of them has been tried, all get time."""
        if failed is not None and attempt >= len(self._places):
            await asyncio.sleep(backoff(attempt - len(self._places)))
        while (place := least_loaded(self._places, time.monotonic(), failed)) is None:
            wait = min(place.rests_until for place in self._places) - time.monotonic()
            await asyncio.sleep(max(wait, 0) + 0.1 * backoff(0))
        return place

    async def _wait_for_limits(self, booked: int) -> None:
        now = time.monotonic()
        wait = max(self._requests.reserve(1, now), self._tokens.reserve(booked, now))
        if wait > 0:
            await asyncio.sleep(wait)

    def _note(self, place: Place, error: Any, last: bool) -> None:
        """Take in what went wrong; raises where another try would be no use."""
        now, status = time.monotonic(), getattr(error, "status_code", None)
        reason = self._reason(place, error)
        if status in _WRONG_ENDPOINT and not place.has_answered:
            raise EngineDead(reason) from error
        if status is None or status in _OVERLOADED or status in _WRONG_ENDPOINT:
            place.failed(now)
        elif not (status in _AGAIN or status >= 500):
            raise RequestRefused(reason) from error
        if (told := retry_after(getattr(getattr(error, "response", None), "headers", {}))) is not None:
            place.rest(now, told)
        if last and not any(place.has_answered for place in self._places):
            raise EngineDead(f"{reason} ({self._max_retries + 1} tries, without one answer)") from error
        if last:
            raise RequestFailed(f"{reason} ({self._max_retries + 1} tries)", retry=False) from error

    def _reason(self, place: Place, error: Any) -> str:
        """What is told of an error, without the key: some endpoints repeat it when they refuse it."""
        status = getattr(error, "status_code", None)
        if status is None:
            text = f"no answer from {place.url}: {error.__cause__ or error}"
        else:
            body = error.body
            told = body.get("message") if isinstance(body, Mapping) else None
            text = f"the endpoint answered {status}: {told or error.message}"
        return text.replace(self._key, "***") if self._key else text


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that an answer's headers ask to wait; `Retry-After` may also hold a date (RFC 9110, 10.2.3)."""
    from email.utils import parsedate_to_datetime

    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    given = headers.get("retry-after")
    if given is None or (seconds := _number(given)) is not None:
        return None if given is None else seconds
    try:
        return max(0.0, parsedate_to_datetime(given).timestamp() - time.time())
    except ValueError:
        return None


def _number(text: str | None) -> float | None:
    try:
        return max(0.0, float(text)) if text is not None else None
    except ValueError:
        return None


def _shown(url: str) -> str:
    """A URL for messages: a password in it stays out."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


@contextmanager
def _counted(place: Place) -> Iterator[None]:
    place.sent, place.in_flight = place.sent + 1, place.in_flight + 1
    try:
        yield
    finally:
        place.in_flight -= 1
