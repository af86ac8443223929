"""Groups of answers to the same prompts, as rows to learn from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from autoalign.config.grpo import GRPOConfig
from autoalign.losses import grpo
from autoalign.losses.advantages import advantages, combined
from autoalign.reinforcement.options import options_of
from autoalign.reinforcement.rows import RolloutRows
from autoalign.sampling.engines.base import Completion
from autoalign.sampling.prompts import Prompt


class Made(NamedTuple):
    """Rows, each answer's combined reward (NaN: none), and the share of groups whose rewards don't differ."""

    rows: RolloutRows
    rewards: Tensor
    flat_share: float


@dataclass(frozen=True)
class Groups:
    """`size` answers to each prompt, one group behind the other.

    Attributes:
        prompts: each answer's.
        answers: None where the engine failed.
        scores: (answers, functions) rewards; NaN where there is none.
    """

    prompts: Sequence[Prompt]
    answers: Sequence[Completion | None]
    scores: Tensor
    size: int

    def write(self, path: Path, made: Made) -> None:
        """A line an answer."""
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        with temporary.open("w", encoding="utf-8") as file:
            for place, (prompt, answer) in enumerate(zip(self.prompts, self.answers, strict=True)):
                row = {
                    "prompt_id": prompt.id,
                    "text": None if answer is None else answer.text,
                    "finish_reason": None if answer is None else answer.finish_reason,
                    "rewards": [None if value != value else value for value in self.scores[place].tolist()],
                    "advantage": float(made.rows.advantages[place]),
                }
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        temporary.replace(path)


def rows_of(groups: Groups, weights: Sequence[float], config: GRPOConfig) -> Made:
    """What a step learns from.

    An answer without an advantage has no gradient but the KL's: where `beta` is 0 the step counts it
    in its divisor, and does not work on it. (`bnpo` divides by what is in a micro-batch, so all are in one.)
    """
    options = options_of(config)
    rewards = combined(groups.scores, weights)
    found = advantages(rewards.view(-1, groups.size), config.scale_rewards)
    values = found.values.reshape(-1).numpy().astype(np.float32)
    given = np.array([_counts(answer, config) for answer in groups.answers], bool)
    adds = given if options.beta or options.loss_type == "bnpo" else given & (values != 0)
    lengths = np.array([len(answer.token_ids) if answer else 0 for answer in groups.answers], np.int64)
    ids = [
        np.array((*prompt.token_ids, *(answer.token_ids if answer else ())), np.int32)
        for prompt, answer in zip(groups.prompts, groups.answers, strict=True)
    ]
    # transformers' log-probs are those of temperature 1, which says nothing about another.
    known = config.backend == "vllm" or config.temperature == 1
    logps = [np.array(answer.logprobs or (), np.float32) for answer in groups.answers if answer]
    engine_logps = np.concatenate([np.empty(0, np.float32), *logps])
    micro_batches = -(-int(adds.sum()) // config.per_device_train_batch_size)
    divisor = grpo.divisor(options, len(values), int(lengths[given].sum()), max(1, micro_batches))
    rows = RolloutRows(
        np.concatenate(ids),
        np.array([len(prompt.token_ids) for prompt in groups.prompts], np.int64),
        lengths,
        values,
        engine_logps if known else np.full_like(engine_logps, np.nan),
        adds,
        np.array(divisor),
        np.empty(0, np.float32),
    )
    return Made(rows, rewards, float(found.is_flat.float().mean()))


def _counts(answer: Completion | None, config: GRPOConfig) -> bool:
    if answer is None or not answer.token_ids:
        return False
    return not (config.mask_truncated_completions and answer.finish_reason == "length")
