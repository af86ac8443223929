"""Rewards of answers: the scorers of `autoalign.scoring`, one or a weighted sum of several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from autoalign.config.grpo import GRPOConfig
from autoalign.curation.answers import Answer
from autoalign.errors import ConfigError
from autoalign.records import Conversation, Message
from autoalign.sampling.prompts import Prompt
from autoalign.scoring import scorer

_TRIED = 50  # prompts, to see whether a reward finds what it needs


class Rewards:
    """What scores answers.

    Attributes:
        names: of the reward functions.
        weights: of each in the sum.

    Raises:
        UnknownName: no such scorer.
        ConfigError: an option that none of them has, or with a wrong value.
    """

    def __init__(self, config: GRPOConfig) -> None:
        self._scorers = scorer.build(scorer.Job(config.scoring, Path(config.output_dir) / "scores.jsonl"))
        self.names = list(self._scorers)
        self.weights = config.reward_weights or [1.0] * len(self.names)

    def of(self, prompts: Sequence[Prompt], texts: Sequence[str | None]) -> Tensor:
        """(answers, functions) float32; NaN where a function can't score, or there is no answer (None)."""
        values = torch.full((len(prompts), len(self.names)), torch.nan)
        places = [place for place, text in enumerate(texts) if text is not None]
        answers = [_answer(prompts[place], str(texts[place])) for place in places]
        for column, each in enumerate(self._scorers.values()):
            for place, outcome in zip(places, each.score(answers), strict=True):
                if isinstance(outcome, scorer.Score):
                    values[place, column] = outcome.value
        return values

    def require_references(self, prompts: Sequence[Prompt]) -> None:
        """Refuse a reward that could score none of the answers, before anything starts.

        Raises:
            ConfigError: its reason.
        """
        answers = [_answer(prompt, "1") for prompt in prompts[:_TRIED]]
        for name, each in self._scorers.items():
            if name in ("judge", "reward_model"):
                continue  # they need no reference, and each answer costs
            outcomes = each.score(answers)
            if all(isinstance(outcome, scorer.Unscorable) for outcome in outcomes):
                first = next(each.reason for each in outcomes if isinstance(each, scorer.Unscorable))
                raise ConfigError(f"'reward': {name} can't score answers to these prompts: {first}")

    def close(self) -> None:
        """Free what the scorers hold."""
        for each in self._scorers.values():
            each.close()


def _answer(prompt: Prompt, text: str) -> Answer:
    turns = [Message(turn["role"], turn.get("content") or "") for turn in prompt.messages]
    row = {**prompt.extra, "extra": prompt.extra}
    return Answer(Conversation(prompt.id, (*turns, Message("assistant", text))), 1, row, group=prompt.id)
