"""What the loop works with: models that write, a trainer, something that tells right from wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from autoalign.algorithms import Ask, Extract, Reply, Reward, Verify


class Sampler(Protocol):
    """Texts from models."""

    def __call__(self, models: Mapping[str, str], asks: Sequence[Ask], store: Path) -> Sequence[Reply]:
        """Replies in the asks' order.

        Args:
            models: role to model folder.
            store: file that texts are kept in as they come, and taken from the next time.
        """
        ...

    def release(self) -> None:
        """Give the machine back: a trainer is next."""
        ...


class Trainer(Protocol):
    """Trains a model."""

    def __call__(self, number: int, model: str, data: list[str], output: Path) -> Mapping[str, Any]:
        """Leave a model folder in `output`, and return figures; what an earlier try left is gone on from.

        Args:
            number: the round, which decides the settings.
        """
        ...


@dataclass(frozen=True)
class Machinery:
    """The loop's ways to the outside; tests put fakes here.

    Attributes:
        digest: what tells model folders apart.
        verify, benchmark: whether an answer is right, of the prompts and of the fixed benchmark.
        extract: what an answer comes to.
        reward: a reward model's scores; it may stay in memory until `release_reward`.
    """

    sample: Sampler
    train: Trainer
    digest: Callable[[str], str]
    verify: Verify | None = None
    benchmark: Verify | None = None
    extract: Extract | None = None
    reward: Reward | None = None
    release_reward: Callable[[], None] = lambda: None
