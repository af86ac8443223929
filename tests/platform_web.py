"""A platform's HTTP API over ASGI, and clients of it with tokens of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx
import httpx2
import openai

from autoalign.jobs.platform import Platform
from tests.web import application


class Web:
    """An application over a platform, and clients with tokens of their own."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.app = application(platform)

    def token(self, name: str = "alice", scopes: Sequence[str] = ("jobs",)) -> str:
        """A new token."""
        return self.platform.tokens.create(name, scopes).text

    def openai(self, **token: Any) -> openai.AsyncOpenAI:
        """OpenAI's client, with such a token."""
        client = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=self.app))
        return openai.AsyncOpenAI(
            api_key=self.token(**token), base_url="http://test/v1", http_client=client, max_retries=0
        )

    def http(self, **token: Any) -> httpx.AsyncClient:
        """A plain client, with such a token."""
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(app=self.app),
            base_url="http://test",
            headers={"Authorization": f"Bearer {self.token(**token)}"},
        )
