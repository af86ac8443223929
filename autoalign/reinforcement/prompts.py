"""The prompts of a job as the table of rows that the training loop draws from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from autoalign import formats
from autoalign.config.grpo import GRPOConfig
from autoalign.errors import DataError
from autoalign.sampling.prompts import Prompt, Refused, prepare
from autoalign.sampling.renderer import ChatRenderer
from autoalign.training.tokens import TokenCounts, TokenRow


@dataclass(frozen=True)
class PromptTable:
    """Rendered prompts; none of their tokens is learned.

    Attributes:
        digest_of_files: of the files that they came from.
        left_out: prompts that leave no room for an answer, or that the template refuses.
    """

    prompts: tuple[Prompt, ...]
    digest_of_files: str
    paths: tuple[str, ...] = ()
    left_out: int = 0
    bad_rows: int = 0

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def counts(self) -> TokenCounts:
        """Prompts and their tokens."""
        return TokenCounts(len(self), dropped=self.left_out, tokens=sum(self.lengths))

    @cached_property
    def lengths(self) -> Sequence[int]:
        """Tokens of each prompt."""
        return [len(prompt.token_ids) for prompt in self.prompts]

    @property
    def supervised_counts(self) -> np.ndarray:
        """(prompts,) zeros."""
        return np.zeros(len(self), np.int64)

    @property
    def margins(self) -> np.ndarray | None:
        """There are no pairs."""
        return None

    @property
    def labels(self) -> np.ndarray:
        """(prompts,) nothing is good or bad before it is answered."""
        return np.zeros(len(self), bool)

    def row(self, index: int) -> TokenRow:
        """A prompt's tokens."""
        ids = np.array(self.prompts[index].token_ids, np.int32)
        return TokenRow(ids, np.zeros(len(ids), bool))

    def digest(self) -> str:
        """Of the files, as the template decides the rest."""
        return self.digest_of_files


def read(
    config: GRPOConfig, paths: Sequence[str], renderer: ChatRenderer, bad_rows: Path, limit: int | None = None
) -> PromptTable:
    """The prompts of `paths`, rendered; those too long for an answer behind them are left out, and counted.

    Raises:
        DataError: a row is wrong, or no prompt is left.
    """
    dataset = formats.load(
        list(paths),
        format=config.format,
        purpose="prompts",
        on_bad_row=config.on_bad_row,
        errors_path=bad_rows,
        seed=config.seed,
    )
    found = list(prepare(dataset.conversations[:limit], renderer, config.system_message))
    room = min(config.model_max_length, renderer.context or config.model_max_length)
    longest = room - config.max_completion_length
    kept = [each for each in found if isinstance(each, Prompt) and len(each.token_ids) <= longest]
    if not kept:
        refused = next((each.reason for each in found if isinstance(each, Refused)), None)
        raise DataError(
            refused
            or f"no prompt leaves room for max_completion_length {config.max_completion_length} tokens in "
            f"{room} (model_max_length, or the model's context)",
            ", ".join(dataset.paths),
        )
    digest = f"{dataset.digest}:{config.format}:{config.seed}:{len(kept)}"
    return PromptTable(tuple(kept), digest, dataset.paths, len(found) - len(kept), dataset.bad_rows)
