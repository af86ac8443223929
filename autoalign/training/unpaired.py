"""KTO and its kin: single answers marked good or bad, and how far the policy has gone from the reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from autoalign.config.dpo import DPOConfig
from autoalign.losses import preference
from autoalign.losses.logps import KTOBatch, sum_answers
from autoalign.training import reference
from autoalign.training.acceleration.sequence_parallel import of_this_rank
from autoalign.training.batches import Batch
from autoalign.training.examples import Examples, Layout
from autoalign.training.measured import Measured
from autoalign.training.model import CAUSAL_LM
from autoalign.training.objective import ExampleSets
from autoalign.training.order import data_order, evaluation_parts, total_steps
from autoalign.training.preference import AnswerLogps
from autoalign.training.reporting import Reporter
from autoalign.training.singles import MismatchedLogps, Singles
from autoalign.training.task import Tables, TrainTask
from autoalign.training.world import World


class UnpairedModel(nn.Module):
    """A policy that maps a batch of single answers to the sum of their losses.

    A batch without labels is one of prompts with other prompts' answers: it is mapped to the sum of
    their log(policy / reference), whose mean estimates the KL divergence.

    Args:
        frozen: the reference, where its log-probs are not precomputed; None with an adapter,
            which is switched off instead.
    """

    def __init__(self, model: Any, config: DPOConfig, frozen: Any | None = None) -> None:
        super().__init__()
        self.model = model
        self._policy = AnswerLogps(model)
        self._reference = None if frozen is None else AnswerLogps(frozen.requires_grad_(False))
        self._objective = preference.build(
            config.loss_type, loss_weights=config.loss_weights, **config.loss_options
        )
        self.good, self.bad, self.all = Measured(), Measured(), Measured()

    def forward(self, batch: Batch) -> Tensor:
        """Sum of the answers' losses, or of their log-ratios: a float32 scalar."""
        logps: Tensor = self._policy(batch)
        # Before the way out: under ZeRO-3 every rank gathers the reference's shards, with rows or without.
        refs = self._reference_logps(batch)
        if not len(logps):
            return logps.sum()
        answers = sum_answers(logps, batch.answer_lengths)
        if batch.desirable is None:
            return of_this_rank((answers - refs).sum(), batch)
        kl = answers.new_zeros(()) if batch.kl is None else batch.kl
        singles = KTOBatch(answers, refs, batch.desirable, kl)
        self._measure(singles)
        losses: Tensor = self._objective(singles).losses
        return of_this_rank(losses.sum(), batch)

    def train(self, mode: bool = True) -> Self:
        """The reference never drops out."""
        super().train(mode)
        if self._reference is not None:
            self._reference.eval()
        return self

    def _reference_logps(self, batch: Batch) -> Tensor:
        if batch.ref_logps is not None:
            return batch.ref_logps
        with torch.no_grad(), reference.adapter_off(self.model, self._reference):
            logps = (self._reference or self._policy)(batch)
        return sum_answers(logps, batch.answer_lengths)

    def _measure(self, singles: KTOBatch) -> None:
        rewards = self._objective.rewards(singles)
        sides = ((self.good, "chosen", singles.desirable), (self.bad, "rejected", ~singles.desirable))
        for measured, side, which in sides:
            if which.any():
                means = {
                    f"rewards/{side}": getattr(rewards, side).mean(),
                    f"logps/{side}": singles.logps.detach()[which].mean(),
                }
                measured.add(means, int(which.sum()))
        if self._objective.needs_kl:
            self.all.add({"kl": singles.kl}, len(singles.logps))


class UnpairedObjective:
    """Single answers are examples; the loss is the mean over answers.

    Args:
        needs_kl: the loss compares with the KL divergence.
    """

    kind = CAUSAL_LM

    def __init__(self, needs_kl: bool) -> None:
        self._needs_kl = needs_kl

    def examples(
        self, task: TrainTask, tables: Tables, world: World, layout: Layout, reporter: Reporter
    ) -> ExampleSets:
        """The answers, with the reference's log-probs where they are precomputed."""
        config = task.config
        train = Singles(tables.train, config.model_max_length)
        evaluation = Singles(tables.evaluation, config.model_max_length) if tables.evaluation else None
        if reference.is_precomputed(config):
            order = data_order(config, train, world.size, layout.padding_free)
            steps = (
                [example for part in order.step(step) for example in part]
                for step in range(total_steps(config, order))
            )
            keys = train.crossings(steps if self._needs_kl else ())
            train = _with_reference(task, train, keys, world, layout, reporter)
            if evaluation is not None:
                parts = evaluation_parts(config, evaluation, 1, layout.padding_free)
                whole = [example for part in parts for example in part]
                keys = evaluation.crossings([whole] if self._needs_kl else ())
                evaluation = _with_reference(task, evaluation, keys, world, layout, reporter)
        return ExampleSets(train, evaluation)

    def module(self, task: TrainTask, model: Any) -> UnpairedModel:
        """The policy with its loss, and the reference where it is kept in memory."""
        config = task.config
        assert isinstance(config, DPOConfig)
        frozen = reference.load(task) if reference.is_kept(config) else None
        return UnpairedModel(model, config, frozen)

    def shared(
        self,
        evaluate: Callable[[Batch], float],
        examples: Examples,
        parts: Sequence[Sequence[int]],
        step: Sequence[int],
        layout: Layout,
        world: World,
    ) -> Mapping[str, Any]:
        """The KL divergence, from the prompts of the whole step with each other's answers."""
        if not self._needs_kl:
            return {}
        assert isinstance(examples, Singles)
        log_ratios = sum(evaluate(examples.mismatched(part, layout, step)) for part in parts)
        (total,) = world.sum(log_ratios)
        return {"kl": torch.tensor(max(0.0, total / max(1, len(step))))}

    def figures(self, module: UnpairedModel, world: World) -> dict[str, float]:
        """Means over the good and over the bad answers of all ranks."""
        figures = {
            **module.good.take_means(("rewards/chosen", "logps/chosen"), world),
            **module.bad.take_means(("rewards/rejected", "logps/rejected"), world),
            **module.all.take_means(("kl",), world),
        }
        if {"rewards/chosen", "rewards/rejected"} <= figures.keys():
            figures["rewards/margins"] = figures["rewards/chosen"] - figures["rewards/rejected"]
        return figures


def _with_reference(
    task: TrainTask, singles: Singles, keys: np.ndarray, world: World, layout: Layout, reporter: Reporter
) -> Singles:
    """The answers with the reference's log-probs of their own and of each other's prompts."""
    count = len(singles.table)

    def crossed(rows: Sequence[int]) -> Batch:
        return singles.crossed([divmod(int(keys[row]), count) for row in rows], layout)

    def own(rows: Sequence[int]) -> Batch:
        return replace(singles.batch(rows, layout, rows), desirable=None)

    digest = singles.table.digest()
    limit = f"{singles.max_length}:".encode()
    wanted = [
        reference.Wanted(digest, count, own),
        reference.Wanted(digest, len(keys), crossed, keys.tobytes() + limit),
    ]
    mine, others = reference.logps(task, wanted, world, reporter)
    return replace(singles, ref_logps=mine, mismatched_ref_logps=MismatchedLogps(keys, others))
