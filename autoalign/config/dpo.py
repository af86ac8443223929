"""Config of a preference-training job."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from autoalign.config.train import DataKind, TrainConfig

Weight = Annotated[float, Field(ge=0)]

_LOSS_OPTIONS = (
    "beta",
    "label_smoothing",
    "discopop_tau",
    "simpo_gamma",
    "sso_alpha",
    "cpo_alpha",
    "nll_average",
    "reward_shift",
    "desirable_weight",
    "undesirable_weight",
)


class DPOConfig(TrainConfig):
    """Train a model on preference pairs, or on answers that are good or bad: DPO, KTO and their kin."""

    job: ClassVar[str] = "dpo"

    learning_rate: float = Field(5e-7, gt=0, description="peak learning rate")
    loss_type: list[str] = Field(
        default_factory=lambda: ["sigmoid"], description="one or several losses: see docs/losses.md"
    )
    loss_weights: list[Weight] | None = Field(None, description="one a loss; none: each counts 1")
    beta: float | None = Field(None, gt=0, description="pull towards the reference; none: the loss's own")
    label_smoothing: float | None = Field(
        None, ge=0, lt=0.5, description="share of pairs taken to be the wrong way round"
    )
    rpo_alpha: float | None = Field(None, ge=0, description="adds the chosen answers' NLL with this weight")
    nll_average: Literal["tokens", "rows"] | None = Field(
        None, description="that NLL's mean: over a step's tokens, or over its rows; none: tokens"
    )
    ld_alpha: float = Field(
        1.0, ge=0, le=1, description="LD-DPO: weight of a longer answer's tokens past the shorter's length"
    )
    discopop_tau: float | None = Field(None, gt=0, description="discopop's temperature; none: the paper's")
    simpo_gamma: float | None = Field(None, ge=0, description="simpo's target margin over beta")
    sso_alpha: float | None = Field(
        None, ge=0, le=1, description="the chosen answer's part in sso's weight; none: 0.66"
    )
    cpo_alpha: float | None = Field(None, ge=0, description="weight of cpo's NLL; none: its default")
    reward_shift: bool | None = Field(None, description="refused when true: training keeps no running mean")
    desirable_weight: float | None = Field(None, gt=0, description="weight of good single answers; none: 1")
    undesirable_weight: float | None = Field(None, gt=0, description="weight of bad single answers; none: 1")
    ref_model: str | None = Field(None, description="reference model; none: the model as it is at the start")
    precompute_ref_log_probs: bool = Field(
        True, description="work out the reference's log-probs once and cache them; false: keep it in memory"
    )

    @property
    def data_kind(self) -> DataKind:
        """Single answers for the losses that are of these; pairs otherwise."""
        from autoalign.losses import preference

        return "unpaired" if preference.build(self.loss_type).unpaired else "preference"

    @property
    def loss_options(self) -> dict[str, Any]:
        """What was given for the losses; the rest are their own defaults."""
        return {name: getattr(self, name) for name in _LOSS_OPTIONS if getattr(self, name) is not None}

    @model_validator(mode="after")
    def _check_losses(self) -> DPOConfig:
        from autoalign.losses import preference

        objective = preference.build(
            self.loss_type, loss_weights=self.loss_weights, rpo_alpha=self.rpo_alpha, **self.loss_options
        )
        micro_batches = self.micro_batches(world_size=1)
        if self.reward_shift:
            raise ValueError(
                "'reward_shift' is a running mean over all workers' rewards, which training does not keep: "
                "leave it out (bco_pair's shift is then 0, as in TRL)"
            )
        if objective.unpaired and self.ld_alpha != 1.0:
            raise ValueError("'ld_alpha' compares a pair's lengths; single answers have none")
        if objective.unpaired and self.per_device_train_batch_size * micro_batches == 1:
            raise ValueError(
                f"'loss_type': {', '.join(self.loss_type)} crosses a step's answers: it needs two or more"
            )
        if objective.couples_rows and (micro_batches > 1 or self.max_tokens_per_batch):
            raise ValueError(
                f"'loss_type': {', '.join(self.loss_type)} sorts the rewards of a whole step: set "
                "gradient_accumulation_steps and num_workers to 1, and no max_tokens_per_batch"
            )
        if self.packing:
            raise ValueError("'packing' is for sft: pairs are laid out without padding as they are")
        return self
