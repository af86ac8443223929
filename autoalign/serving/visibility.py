"""Which models a token may name: everybody's, and those that its owner's jobs have made."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from autoalign.principals import Principal
from autoalign.serving.catalogue import Served
from autoalign.serving.placement import is_name
from autoalign.serving.registry import Registry

_REMEMBER = 5.0  # seconds; a token that is revoked is refused before this is asked
_MOST = 10_000


@dataclass
class Visibility:
    """The registry's rights, looked up once in a while instead of for every request.

    Args:
        everybodys: the models that the catalogue lists.
    """

    registry: Registry
    everybodys: Callable[[], Awaitable[list[Served]]]
    _known: dict[tuple[str, str], tuple[float, bool]] = field(default_factory=dict)

    async def may_use(self, principal: Principal, model: str) -> bool:
        """Whether the model is there for the bearer; one that does not exist is.

        Raises:
            RegistryUnavailable: it can't be known now.
        """
        key = (principal.token_id, model)
        since, answer = self._known.get(key, (0.0, False))
        if time.monotonic() - since < _REMEMBER:
            return answer
        answer = await asyncio.to_thread(self._look_up, principal, model)
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[key] = (time.monotonic(), answer)
        return answer

    async def find(self, principal: Principal, model: str) -> Served | None:
        """The model, as `/v1/models` shows it.

        Raises:
            RegistryUnavailable: it can't be known now.
        """
        if not is_name(model):
            return None
        listed = next((each for each in await self.everybodys() if each.id == model), None)
        if listed is not None:
            return listed
        folder = await asyncio.to_thread(self.registry.find, model, principal)
        return None if folder is None else Served(model, folder, "", int(folder.stat().st_mtime))

    def _look_up(self, principal: Principal, model: str) -> bool:
        return self.registry.find(model, principal) is not None or self.registry.find(model) is None
