"""GRPO's objective over the answers of the moment, as one module that engines wrap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from autoalign.config.grpo import GRPOConfig
from autoalign.losses import grpo
from autoalign.reinforcement.live import LiveRollouts
from autoalign.reinforcement.options import options_of
from autoalign.training import reference
from autoalign.training.batches import Batch
from autoalign.training.examples import Layout, Rows
from autoalign.training.measured import Measured
from autoalign.training.model import CAUSAL_LM
from autoalign.training.objective import ExampleSets
from autoalign.training.preference import AnswerLogps
from autoalign.training.reporting import Reporter
from autoalign.training.task import Tables, TrainTask
from autoalign.training.world import World

_ALWAYS = ("entropy", "clip_ratio/region_mean", "sampling/importance_sampling_ratio")


class GRPOModel(nn.Module):
    """A policy that maps a batch of its answers to their summed loss.

    Args:
        frozen: the reference, where `beta` asks for one; None with an adapter, which is switched off instead.
    """

    def __init__(self, model: Any, config: GRPOConfig, frozen: Any | None = None) -> None:
        super().__init__()
        self.model = model
        self.token_logps = AnswerLogps(model, config.temperature)
        self._reference = None
        if frozen is not None:
            self._reference = AnswerLogps(frozen.requires_grad_(False), config.temperature)
        self._options = options_of(config)
        self._cap = config.importance_sampling_cap
        self.measured = Measured()

    def forward(self, batch: Batch) -> Tensor:
        """The summed loss, a float32 scalar."""
        logps: Tensor = self.token_logps(batch)
        # Under ZeRO-3 every rank gathers the reference's shards, with rows or without.
        ref_logps = self._reference_logps(batch) if self._options.beta else None
        if not len(logps):
            return logps.sum()
        assert batch.advantages is not None
        weights = self._weights(batch, logps)
        answers = grpo.AnswerBatch(
            logps,
            batch.answer_lengths,
            batch.advantages,
            batch.old_logps,
            ref_logps,
            weights,
        )
        outcome = grpo.loss(answers, self._options)
        figures = {"clip_ratio/region_mean": outcome.clip_ratio, "entropy": -logps.detach().mean()}
        figures["sampling/importance_sampling_ratio"] = torch.ones(()) if weights is None else weights.mean()
        self.measured.add(figures if outcome.kl is None else {**figures, "kl": outcome.kl}, len(logps))
        return outcome.loss

    def train(self, mode: bool = True) -> Self:
        """The reference never drops out."""
        super().train(mode)
        if self._reference is not None:
            self._reference.eval()
        return self

    def figures(self, world: World) -> dict[str, float]:
        """Means over all ranks' tokens since the last call."""
        return self.measured.take_means((*_ALWAYS, "kl") if self._options.beta else _ALWAYS, world)

    def _weights(self, batch: Batch, logps: Tensor) -> Tensor | None:
        if self._cap is None or batch.engine_logps is None:
            return None
        old = logps if batch.old_logps is None else batch.old_logps
        return grpo.importance_weights(old, batch.engine_logps, self._cap)

    @torch.no_grad()
    def _reference_logps(self, batch: Batch) -> Tensor:
        with reference.adapter_off(self.model, self._reference):
            logps: Tensor = (self._reference or self.token_logps)(batch)
        return logps


class GRPOObjective:
    """A step's answers are its examples."""

    kind = CAUSAL_LM

    def examples(
        self, task: TrainTask, tables: Tables, world: World, layout: Layout, reporter: Reporter
    ) -> ExampleSets:
        """The prompts, and what makes answers of them."""
        return ExampleSets(Rows(tables.train), None, LiveRollouts(task, tables, world, layout))

    def module(self, task: TrainTask, model: Any) -> GRPOModel:
        """The policy with its loss, and the reference where there is one."""
        config = task.config
        assert isinstance(config, GRPOConfig)
        is_kept = config.beta > 0 and not config.use_lora
        return GRPOModel(model, config, reference.load(task) if is_kept else None)

    def shared(self, *_: Any) -> Mapping[str, Any]:
        """Nothing: a micro-batch needs no more than its own rows."""
        return {}

    def figures(self, module: GRPOModel, world: World) -> dict[str, float]:
        """Means over the tokens of all ranks: entropy, clipped ratios, KL."""
        return module.figures(world)
