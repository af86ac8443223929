"""Rows to tensors: a padding-free sequence, or a padded rectangle, with what the loss covers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autoalign.training.acceleration.sequence_parallel import Share
from autoalign.training.tokens import TokenRow


@dataclass(frozen=True)
class Batch:
    """A micro-batch.

    Attributes:
        input_ids: (1, tokens) when padding-free, else (rows, longest).
        position_ids: same shape; restarts at 0 with each row.
        attention_mask: None when padding-free, else (rows, longest) of 0 and 1.
        row_lengths: tokens of each row's own, in order; None when padded.
        shared_lengths: leading tokens of the row before that each row begins with too, and that
            are computed once; None: none are shared.
        predict_from: (supervised,) indices into the flattened sequence; the hidden state
            there predicts the supervised token that follows.
        targets: (supervised,) the token ids predicted.
        answer_lengths: supervised tokens of each row, in order; they add up to `supervised`.
        tokens: tokens without padding.
        ref_logps: (rows,) float32, the reference's log-prob of each row's answer, if precomputed.
        mean_chosen_tokens: scalar, mean length of the step's chosen answers over all workers.
        margins: (pairs,) float32, by how much the chosen answers are known to be better, if given.
        share: which stretch of a batch this is, where ranks share one.
        desirable: (rows,) bool, which of the single answers are good.
        kl: scalar, the step's estimate of the KL divergence from the reference.
        advantages: (rows,) float32, of answers that the policy gave itself.
        engine_logps: (supervised,) float32, the answers' log-probs as the engine that sampled them saw
            them; NaN where it did not say.
        old_logps: (supervised,) float32, under the policy that the step's ratio is held against.
    """

    input_ids: Tensor
    position_ids: Tensor
    attention_mask: Tensor | None
    row_lengths: tuple[int, ...] | None
    predict_from: Tensor
    targets: Tensor
    answer_lengths: tuple[int, ...]
    tokens: int
    ref_logps: Tensor | None = None
    mean_chosen_tokens: Tensor | None = None
    margins: Tensor | None = None
    share: Share | None = None
    shared_lengths: tuple[int, ...] | None = None
    desirable: Tensor | None = None
    kl: Tensor | None = None
    advantages: Tensor | None = None
    engine_logps: Tensor | None = None
    old_logps: Tensor | None = None

    @property
    def last_tokens(self) -> Tensor:
        """(rows,) indices into the flattened sequence of each row's last token."""
        if self.row_lengths is not None:
            return torch.tensor(self.row_lengths, device=self.input_ids.device).cumsum(0) - 1
        assert self.attention_mask is not None
        rows, width = self.attention_mask.shape
        starts = torch.arange(0, rows * width, width, device=self.attention_mask.device)
        return starts + self.attention_mask.sum(1) - 1

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`."""
        if device.type == "cpu":
            return self
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True)
            for name, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        return replace(self, **moved)


def collate(
    rows: Sequence[TokenRow], padding_free: bool, pad_token_id: int = 0, shares_prompts: bool = False
) -> Batch:
    """Lay rows out as one micro-batch.

    Args:
        shares_prompts: rows come in pairs, and what the second has in common with the first from
            the start is laid out once (when padding-free).

    No rows at all give a batch of one token and nothing supervised: at an epoch's end
    every worker still takes part in the step's collectives.
    """
    rows = list(rows) or [TokenRow(np.array([pad_token_id], np.int32), np.array([False]))]
    if not padding_free:
        return _padded(rows, pad_token_id)
    return _flat(rows, _shared_lengths(rows) if shares_prompts else [0] * len(rows))


def _flat(rows: Sequence[TokenRow], shared: Sequence[int]) -> Batch:
    lengths = tuple(len(row.input_ids) - cut for row, cut in zip(rows, shared, strict=True))
    starts = np.cumsum((0, *lengths))
    answers = [np.flatnonzero(row.supervised[1:]) for row in rows]
    return Batch(
        input_ids=_long(np.concatenate([row.input_ids[cut:] for row, cut in zip(rows, shared, strict=True)]))[
            None
        ],
        position_ids=_long(
            np.concatenate([np.arange(n) + cut for n, cut in zip(lengths, shared, strict=True)])
        )[None],
        attention_mask=None,
        row_lengths=lengths,
        predict_from=_long(
            np.concatenate([_places(answer, starts, index, shared) for index, answer in enumerate(answers)])
        ),
        targets=_long(
            np.concatenate([row.input_ids[answer + 1] for row, answer in zip(rows, answers, strict=True)])
        ),
        answer_lengths=tuple(map(len, answers)),
        tokens=sum(lengths),
        shared_lengths=tuple(shared) if any(shared) else None,
    )


def _places(tokens: np.ndarray, starts: np.ndarray, row: int, shared: Sequence[int]) -> np.ndarray:
    """Where `tokens` of a row lie in the sequence: the shared ones in the row before."""
    cut = shared[row]
    return np.where(tokens < cut, starts[row - 1] + tokens, starts[row] + tokens - cut)


def _shared_lengths(rows: Sequence[TokenRow]) -> list[int]:
    """How many tokens each second row shares with its first; at least one of each is its own."""
    shared = [0] * len(rows)
    for second in range(1, len(rows), 2):
        first_ids, second_ids = rows[second - 1].input_ids, rows[second].input_ids
        most = min(len(first_ids), len(second_ids) - 1)
        differs = np.flatnonzero(first_ids[:most] != second_ids[:most])
        shared[second] = int(differs[0]) if len(differs) else most
    return shared


def _padded(rows: Sequence[TokenRow], pad_token_id: int) -> Batch:
    width = max(len(row.input_ids) for row in rows)
    ids = np.full((len(rows), width), pad_token_id, np.int64)
    mask = np.zeros((len(rows), width), np.int64)
    answers = []
    for index, row in enumerate(rows):
        ids[index, : len(row.input_ids)] = row.input_ids
        mask[index, : len(row.input_ids)] = 1
        answers.append(index * width + np.flatnonzero(row.supervised[1:]))
    positions = np.concatenate(answers)
    return Batch(
        input_ids=_long(ids),
        position_ids=_long(np.broadcast_to(np.arange(width), ids.shape).copy()),
        attention_mask=_long(mask),
        row_lengths=None,
        predict_from=_long(positions),
        targets=_long(ids.reshape(-1)[positions + 1]),
        answer_lengths=tuple(map(len, answers)),
        tokens=int(mask.sum()),
    )


def _long(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.astype(np.int64))
