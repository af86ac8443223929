"""Reward models: one number at each answer's last token, learned from which answer is preferred."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from autoalign.config.rm import RMConfig
from autoalign.losses import reward
from autoalign.losses.reward_metrics import Rewards, reward_metrics
from autoalign.training.batches import Batch
from autoalign.training.examples import Layout, Pairs
from autoalign.training.measured import REWARD_FIGURES, Measured
from autoalign.training.model import REWARD
from autoalign.training.objective import ExampleSets
from autoalign.training.reporting import Reporter
from autoalign.training.supervised import base_model, model_inputs
from autoalign.training.task import Tables, TrainTask
from autoalign.training.world import World


class RewardModel(nn.Module):
    """A sequence classifier of one output that maps a batch of pairs to the sum of their losses."""

    def __init__(self, model: Any, options: reward.Options) -> None:
        super().__init__()
        self.model = model
        self.measured = Measured()
        self._options = options

    def forward(self, batch: Batch) -> Tensor:
        """Sum of the pairs' losses, a float32 scalar."""
        rewards = row_rewards(self.model, batch)
        if not len(batch.targets):
            return rewards.sum() * 0.0
        chosen, rejected = rewards[::2], rewards[1::2]
        self.measured.add(reward_metrics(Rewards(chosen.detach(), rejected.detach())), len(chosen))
        return reward.loss(chosen, rejected, self._options, batch.margins).sum()


class RewardObjective:
    """Pairs are examples; the loss is the mean over pairs."""

    kind = REWARD

    def examples(
        self, task: TrainTask, tables: Tables, world: World, layout: Layout, reporter: Reporter
    ) -> ExampleSets:
        """The pairs as they are."""
        return ExampleSets(Pairs(tables.train), Pairs(tables.evaluation) if tables.evaluation else None)

    def module(self, task: TrainTask, model: Any) -> RewardModel:
        """The model with the Bradley-Terry loss."""
        config = task.config
        assert isinstance(config, RMConfig)
        return RewardModel(model, reward.Options(config.center_rewards_coefficient))

    def shared(self, *_: Any) -> Mapping[str, Any]:
        """Nothing: a micro-batch needs no more than its own rows."""
        return {}

    def figures(self, module: RewardModel, world: World) -> dict[str, float]:
        """Means over the pairs of all ranks: rewards, margins, accuracy."""
        return module.measured.take_means(REWARD_FIGURES, world)


def row_rewards(model: Any, batch: Batch) -> Tensor:
    """(rows,) float32 rewards: the head on the hidden state of each row's last token."""
    classifier = base_model(model)
    body = getattr(classifier, classifier.base_model_prefix)
    hidden: Tensor = body(**model_inputs(batch)).last_hidden_state
    last = hidden.reshape(-1, hidden.shape[-1]).index_select(0, batch.last_tokens)
    head = getattr(classifier, str(REWARD.head))
    rewards: Tensor = head(last.to(head.weight.dtype)).squeeze(-1)
    return rewards.float()
