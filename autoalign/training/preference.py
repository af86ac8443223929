"""Preference training: pairs of answers, their log-probs under policy and reference, and a loss of those."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from autoalign.config.dpo import DPOConfig
from autoalign.losses import preference
from autoalign.losses.logps import PairLogps, sum_answers
from autoalign.losses.reward_metrics import reward_metrics
from autoalign.losses.token_logps import (
    linear_log_collisions,
    linear_token_logps,
    log_collisions,
    token_logps,
)
from autoalign.training import reference
from autoalign.training.acceleration.sequence_parallel import of_this_rank, whole_answers
from autoalign.training.answer_head import AnswerHead, answer_head
from autoalign.training.batches import Batch
from autoalign.training.examples import Layout, Pairs
from autoalign.training.measured import REWARD_FIGURES, Measured
from autoalign.training.model import CAUSAL_LM
from autoalign.training.objective import ExampleSets
from autoalign.training.reporting import Reporter
from autoalign.training.supervised import answer_hidden, answer_logits, base_model
from autoalign.training.task import Tables, TrainTask
from autoalign.training.world import World

_FIGURES = (*REWARD_FIGURES, "logps/chosen", "logps/rejected")


class AnswerLogps(nn.Module):
    """A causal language model that gives the log-prob of every supervised token, at a temperature."""

    def __init__(self, model: Any, temperature: float = 1.0) -> None:
        super().__init__()
        self.model = model
        self._temperature = temperature

    def forward(self, batch: Batch) -> Tensor:
        """(supervised,) float32 log-probs, of the whole batch where ranks share it."""
        return whole_answers(self._own_logps(batch), batch)

    def with_collisions(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What `forward` gives, and log sum_v p(v)^2 at the same tokens, (supervised,) without a gradient."""
        head, values = self._before_softmax(batch)
        with torch.no_grad():
            own = log_collisions(values) if head is None else head(values, linear_log_collisions)
        return whole_answers(_logps(head, values, batch), batch), whole_answers(own, batch)

    def _own_logps(self, batch: Batch) -> Tensor:
        return _logps(*self._before_softmax(batch), batch)

    def _before_softmax(self, batch: Batch) -> tuple[AnswerHead | None, Tensor]:
        """The head and its inputs, where its logits can be taken in chunks; else none, and all logits."""
        head = answer_head(base_model(self.model))
        values = answer_logits if head is None else answer_hidden
        return head, self._cooled(values(self.model, batch))

    def _cooled(self, values: Tensor) -> Tensor:
        """Logits, or what they are linear in, over the temperature."""
        return values if self._temperature == 1.0 else values / self._temperature


def _logps(head: AnswerHead | None, values: Tensor, batch: Batch) -> Tensor:
    if head is None:
        return token_logps(values, batch.targets)
    logps: Tensor = head(values, linear_token_logps, batch.targets)
    return logps


class PreferenceModel(nn.Module):
    """A policy that maps a batch of pairs to the sum of their losses.

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
            config.loss_type,
            loss_weights=config.loss_weights,
            rpo_alpha=config.rpo_alpha,
            **config.loss_options,
        )
        self._ld_alpha = config.ld_alpha
        self.measured = Measured()

    def forward(self, batch: Batch) -> Tensor:
        """Sum of the pairs' losses, a float32 scalar."""
        if self._objective.needs_collisions:
            logps, collisions = self._policy.with_collisions(batch)
        else:
            logps, collisions = self._policy(batch), None
        if not len(logps):
            if self._objective.needs_reference:
                # Under ZeRO-3 every rank gathers the reference's shards, with rows or without.
                self._reference_logps(batch, list(batch.answer_lengths))
            return logps.sum()
        pairs = self._pair_logps(batch, logps, collisions)
        losses: Tensor = self._objective(pairs).losses
        self._measure(pairs)
        return of_this_rank(losses.sum(), batch)

    def train(self, mode: bool = True) -> Self:
        """The reference never drops out."""
        super().train(mode)
        if self._reference is not None:
            self._reference.eval()
        return self

    def _pair_logps(self, batch: Batch, logps: Tensor, collisions: Tensor | None) -> PairLogps:
        lengths = batch.answer_lengths
        shared = [min(pair) for pair in zip(lengths[::2], lengths[1::2], strict=True) for _ in range(2)]
        answers = sum_answers(logps, lengths, shared_lengths=shared, ld_alpha=self._ld_alpha)
        tokens = torch.tensor(lengths, dtype=torch.float32, device=logps.device)
        refs = self._reference_logps(batch, shared) if self._objective.needs_reference else None
        shares = None if collisions is None else sum_answers(collisions, lengths)
        unweighted = None if self._ld_alpha == 1.0 else sum_answers(logps, lengths)[::2]
        return PairLogps(
            chosen=answers[::2],
            rejected=answers[1::2],
            chosen_tokens=tokens[::2],
            rejected_tokens=tokens[1::2],
            ref_chosen=None if refs is None else refs[::2],
            ref_rejected=None if refs is None else refs[1::2],
            chosen_unweighted=unweighted,
            mean_chosen_tokens=batch.mean_chosen_tokens,
            chosen_collisions=None if shares is None else shares[::2],
            rejected_collisions=None if shares is None else shares[1::2],
        )

    def _reference_logps(self, batch: Batch, shared: list[int]) -> Tensor:
        if batch.ref_logps is not None:
            return batch.ref_logps
        with torch.no_grad(), reference.adapter_off(self.model, self._reference):
            logps = (self._reference or self._policy)(batch)
        return sum_answers(logps, batch.answer_lengths, shared_lengths=shared, ld_alpha=self._ld_alpha)

    def _measure(self, pairs: PairLogps) -> None:
        measured = reward_metrics(self._objective.rewards(pairs))
        measured |= {
            "logps/chosen": pairs.chosen.detach().mean(),
            "logps/rejected": pairs.rejected.detach().mean(),
        }
        self.measured.add(measured, len(pairs.chosen))


class PreferenceObjective:
    """Pairs are examples; the loss is the mean over pairs."""

    kind = CAUSAL_LM

    def examples(
        self, task: TrainTask, tables: Tables, world: World, layout: Layout, reporter: Reporter
    ) -> ExampleSets:
        """The pairs, with the reference's log-probs where they are precomputed."""
        sets = [None if table is None else Pairs(table) for table in tables]
        if reference.is_precomputed(task.config):
            sets = reference.with_logps(task, sets, world, layout, reporter)
        train, evaluation = sets
        assert train is not None
        return ExampleSets(train, evaluation)

    def module(self, task: TrainTask, model: Any) -> PreferenceModel:
        """The policy with its loss, and the reference where it is kept in memory."""
        config = task.config
        assert isinstance(config, DPOConfig)
        frozen = reference.load(task) if reference.is_kept(config) else None
        return PreferenceModel(model, config, frozen)

    def shared(self, *_: Any) -> Mapping[str, Any]:
        """Nothing: a micro-batch needs no more than its own rows."""
        return {}

    def figures(self, module: PreferenceModel, world: World) -> dict[str, float]:
        """Means over the pairs of all ranks: rewards, margins, accuracy, log-probs."""
        return module.measured.take_means(_FIGURES, world)
