"""A weighted list of preference losses as one objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from autoalign import plugins
from autoalign.errors import ConfigError, nearest
from autoalign.losses.option_checks import require
from autoalign.losses.preference._running_mean import RunningMean

if TYPE_CHECKING:
    from torch import Tensor

    from autoalign.losses.logps import KTOBatch, PairLogps
    from autoalign.losses.reward_metrics import Rewards

PACKAGE = "autoalign.losses.preference"
State = Mapping[str, RunningMean]


class Outcome(NamedTuple):
    """What an objective says of a batch.

    Args:
        losses: (batch,) weighted sums of the terms; their mean is what is minimised.
        parts: each term's own mean, unweighted and detached, by its name.
        state: pass it in with the next batch, and keep it in the checkpoint.
    """

    losses: Tensor
    parts: dict[str, Tensor]
    state: State


@dataclass(frozen=True)
class Term:
    """One loss with its weight and options."""

    name: str
    weight: float
    options: Any

    @property
    def module(self) -> ModuleType:
        """The file that the loss is written in."""
        return _module(self.name)

    def has(self, flag: str) -> bool:
        """Whether the file sets `flag`, such as `NEEDS_REFERENCE`."""
        return bool(getattr(self.module, flag, False))


@dataclass(frozen=True)
class Objective:
    """What `build` makes; holds no tensors and no modules, so it may cross processes."""

    terms: tuple[Term, ...]

    @property
    def needs_reference(self) -> bool:
        """Whether reference log-probs must be given."""
        return any(term.has("NEEDS_REFERENCE") for term in self.terms)

    @property
    def unpaired(self) -> bool:
        """Whether it takes `KTOBatch` instead of `PairLogps`."""
        return self.terms[0].has("UNPAIRED")

    @property
    def needs_kl(self) -> bool:
        """Whether an estimate of the KL divergence must be given."""
        return any(term.has("NEEDS_KL") for term in self.terms)

    @property
    def needs_collisions(self) -> bool:
        """Whether log sum_v p(v)^2 must be given."""
        return any(term.has("NEEDS_COLLISIONS") for term in self.terms)

    @property
    def couples_rows(self) -> bool:
        """Whether a row's loss depends on the rest of its batch, so that batches may not be re-cut."""
        return any(term.has("COUPLES_ROWS") for term in self.terms)

    @property
    def beta(self) -> float:
        """Of the first term that has one; 1 where none has."""
        return next((term.options.beta for term in self.terms if hasattr(term.options, "beta")), 1.0)

    def initial_state(self) -> State:
        """The state to begin training with."""
        return {t.name: t.module.initial_state() for t in self.terms if hasattr(t.module, "initial_state")}

    def __call__(self, batch: PairLogps | KTOBatch, state: State | None = None) -> Outcome:
        """The losses of a batch; `state` None begins anew."""
        after = dict(self.initial_state() if state is None else state)
        parts = {}
        for term in self.terms:
            if term.name in after:
                parts[term.name], after[term.name] = term.module.loss(batch, term.options, after[term.name])
            else:
                parts[term.name] = term.module.loss(batch, term.options)
        losses = sum(term.weight * parts[term.name] for term in self.terms)
        return Outcome(losses, {name: part.detach().mean() for name, part in parts.items()}, after)

    def rewards(self, batch: PairLogps | KTOBatch) -> Rewards:
        """The rewards that the policy implies, as the first term that has a beta defines them."""
        from autoalign.losses.logps import KTOBatch
        from autoalign.losses.reward_metrics import pair_rewards, single_rewards

        if isinstance(batch, KTOBatch):
            return single_rewards(batch, self.beta)
        first = next((term for term in self.terms if hasattr(term.options, "beta")), self.terms[0])
        return pair_rewards(
            batch,
            self.beta,
            reference=first.has("NEEDS_REFERENCE"),
            per_token=first.has("PER_TOKEN_REWARDS"),
        )


def names() -> list[str]:
    """The losses there are."""
    return plugins.names(PACKAGE)


def build(
    loss_type: str | Sequence[str],
    *,
    loss_weights: Sequence[float] | None = None,
    rpo_alpha: float | None = None,
    **settings: Any,
) -> Objective:
    """Make an objective.

    Args:
        loss_type: a loss's name, or several, whose weighted sum is taken (MPO, arXiv:2411.10442).
        loss_weights: one for each name; None weighs each 1.
        rpo_alpha: adds `sft`, the negative log-likelihood of the chosen answer, with this weight
            (Iterative RPO, arXiv:2404.19733).
        settings: options by name, each for every loss that has it; None is the loss's own default.

    Raises:
        UnknownName: no loss has that name.
        ConfigError: a setting that none of the losses has, or a value that it may not take.
    """
    chosen = [loss_type] if isinstance(loss_type, str) else list(loss_type)
    weights = [1.0] * len(chosen) if loss_weights is None else list(loss_weights)
    require(len(weights) == len(chosen), "loss_weights", weights, f"{len(chosen)}, one for each loss_type")
    if rpo_alpha is not None:
        require(rpo_alpha >= 0, "rpo_alpha", rpo_alpha, "0 or more")
        chosen, weights = [*chosen, "sft"], [*weights, rpo_alpha]
    require(bool(chosen), "loss_type", chosen, "at least one loss")
    require(len(set(chosen)) == len(chosen), "loss_type", chosen, "each loss once (rpo_alpha adds 'sft')")
    given = {name: value for name, value in settings.items() if value is not None}
    _refuse_unknown(given, chosen)
    terms = tuple(
        Term(name, weight, _options(name, given)) for name, weight in zip(chosen, weights, strict=True)
    )
    if len({term.has("UNPAIRED") for term in terms}) > 1:
        raise ConfigError(f"loss_type {chosen}: losses of pairs and of single answers cannot be mixed")
    return Objective(terms)


@cache
def _module(name: str) -> ModuleType:
    return plugins.load(PACKAGE, name)


def _option_names(name: str) -> list[str]:
    return [field.name for field in fields(_module(name).Options)]


def _options(name: str, given: Mapping[str, Any]) -> Any:
    known = _option_names(name)
    return _module(name).Options(**{key: value for key, value in given.items() if key in known})


def _refuse_unknown(given: Mapping[str, Any], losses: Sequence[str]) -> None:
    known = sorted({option for name in losses for option in _option_names(name)})
    for key in given:
        if key not in known:
            raise ConfigError(
                f"{key} is no option of loss_type {', '.join(losses)}{nearest(key, known)};"
                f" there are: {', '.join(known) or 'none'}"
            )
