"""What a replica asks of an engine; one file a kind, as for sampling."""

from __future__ import annotations

from typing import Protocol

from autoalign import plugins
from autoalign.serving.access import ASGIApp
from autoalign.serving.placement import Adapter
from autoalign.serving.spec import EngineSpec


class ServedEngine(Protocol):
    """A model in memory, and the OpenAI application around it."""

    @property
    def app(self) -> ASGIApp:
        """Answers requests."""

    @property
    def stop(self) -> tuple[str, ...]:
        """Texts that end an answer, where the tokenizer has no single token for them."""

    @property
    def stop_token_ids(self) -> tuple[int, ...]:
        """Tokens that end an answer."""

    @property
    def errored(self) -> bool:
        """Whether it can answer no more."""

    async def load_adapter(self, adapter: Adapter) -> None:
        """Load a LoRA adapter, or the newer state of one.

        Raises:
            JobFailed: it can't be loaded.
        """

    def close(self) -> None:
        """Free what it holds."""


async def start(spec: EngineSpec) -> ServedEngine:
    """Load the model.

    Raises:
        JobFailed: the engine can't start with it.
        MissingDependency: the engine's library is not installed.
    """
    engine: ServedEngine = await plugins.load("autoalign.serving.served", spec.backend).start(spec)
    return engine
