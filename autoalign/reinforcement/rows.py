"""A step's answers as examples to learn from."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Self

import numpy as np
import torch

from autoalign.training.batches import Batch, collate
from autoalign.training.examples import Layout
from autoalign.training.tokens import TokenRow


@dataclass(frozen=True)
class RolloutRows:
    """Answers behind their prompts; an example is a row of both.

    Attributes:
        ids: int32, all rows' tokens, one behind the other.
        prompt_lengths, answer_lengths: (rows,) int64 tokens.
        advantages: (rows,) float32.
        engine_logps: float32, all answers' tokens, one behind the other; NaN where it is not known.
        is_learned: (rows,) bool, which rows a step works on; the others are only counted.
        step_divisor: what a step's summed loss is divided by.
        old_logps: as `engine_logps`, by the policy that the ratio is held against; empty: by the one of now.
    """

    ids: np.ndarray
    prompt_lengths: np.ndarray
    answer_lengths: np.ndarray
    advantages: np.ndarray
    engine_logps: np.ndarray
    is_learned: np.ndarray
    step_divisor: np.ndarray
    old_logps: np.ndarray

    @property
    def lengths(self) -> Sequence[int]:
        """Tokens of each row."""
        return self._lengths

    @property
    def padded_lengths(self) -> Sequence[int]:
        """A row is an example."""
        return self._lengths

    @property
    def shard_sizes(self) -> Sequence[int] | None:
        """They are in memory."""
        return None

    @property
    def learned(self) -> list[int]:
        """The rows that a step works on."""
        found: list[int] = np.flatnonzero(self.is_learned).tolist()
        return found

    def divisor(self, wanted: Sequence[int]) -> float:
        """The step's own."""
        return float(self.step_divisor)

    def supervised_tokens(self, wanted: Sequence[int]) -> int:
        """Tokens of the answers."""
        return int(self.answer_lengths[list(wanted)].sum())

    def batch(self, wanted: Sequence[int], layout: Layout, step: Sequence[int]) -> Batch:
        """The rows with their advantages and log-probs."""
        batch = collate([self._row(row) for row in wanted], *layout)
        return replace(
            batch,
            advantages=torch.from_numpy(self.advantages[list(wanted)]),
            engine_logps=self._tokens(self.engine_logps, wanted),
            old_logps=self._tokens(self.old_logps, wanted) if len(self.old_logps) else None,
        )

    def with_old_logps(self, found: Sequence[tuple[int, np.ndarray]]) -> Self:
        """The same rows; `found` holds each row's number and its answer's log-probs under the policy."""
        old = np.full(len(self.engine_logps), np.nan, np.float32)
        for row, values in found:
            old[self._answers[row] : self._answers[row + 1]] = values
        return replace(self, old_logps=old)

    def dumps(self) -> bytes:
        """All of it, for other ranks."""
        file = io.BytesIO()
        np.savez(file, allow_pickle=False, **{each.name: getattr(self, each.name) for each in fields(self)})
        return file.getvalue()

    @classmethod
    def loads(cls, content: bytes) -> Self:
        """The inverse of `dumps`."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return cls(**{each.name: arrays[each.name] for each in fields(cls)})

    @cached_property
    def _lengths(self) -> list[int]:
        lengths: list[int] = (self.prompt_lengths + self.answer_lengths).tolist()
        return lengths

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.cumsum([0, *self._lengths])

    @cached_property
    def _answers(self) -> np.ndarray:
        return np.cumsum([0, *self.answer_lengths])

    def _row(self, row: int) -> TokenRow:
        ids = self.ids[self._starts[row] : self._starts[row + 1]]
        return TokenRow(ids, np.arange(len(ids)) >= self.prompt_lengths[row])

    def _tokens(self, values: np.ndarray, wanted: Sequence[int]) -> torch.Tensor:
        parts = [values[self._answers[row] : self._answers[row + 1]] for row in wanted]
        return torch.from_numpy(np.concatenate([np.empty(0, np.float32), *parts]))
