"""OpenAI's fine-tuning objects: what a request asks for, and how a job is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from autoalign.config.dpo import DPOConfig
from autoalign.config.sft import SFTConfig
from autoalign.jobs.model_names import Checkpoint as ModelCheckpoint
from autoalign.jobs.platform import Order
from autoalign.jobs.tables import ArtefactRow, EventRow, JobRow, MetricRow
from autoalign.serving.api_route import Metadata, Strict, Text

Auto = Literal["auto"]
Epochs = Auto | Annotated[int, Field(ge=1, le=100)]
BatchSize = Auto | Annotated[int, Field(ge=1, le=4096)]
Multiplier = Auto | Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]
Beta = Auto | Annotated[float, Field(gt=0, le=2, allow_inf_nan=False)]
Status = Literal["validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"]

_STATUS: dict[str, Status] = {
    "queued": "queued",
    "running": "running",
    "paused": "paused",
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
    "lost": "failed",
}
_EPOCHS, _BATCH_SIZE, _BETA = 3, 4, 0.1
_BAD_INPUT = 2
# What a key of the job's config is called in OpenAI's request.
FIELDS = {
    "data_path": "training_file",
    "eval_data_path": "validation_file",
    "model_name_or_path": "model",
}


class Hyperparameters(Strict):
    """Of supervised training; `auto` leaves the choice to the platform."""

    n_epochs: Epochs = "auto"
    batch_size: BatchSize = "auto"
    learning_rate_multiplier: Multiplier = "auto"


class DPOHyperparameters(Hyperparameters):
    """Of DPO."""

    beta: Beta = "auto"


class Supervised(Strict):
    """Supervised training."""

    hyperparameters: Hyperparameters = Hyperparameters()


class DPO(Strict):
    """Direct preference optimisation."""

    hyperparameters: DPOHyperparameters = DPOHyperparameters()


class SupervisedMethod(Strict):
    """`method` of supervised training."""

    type: Literal["supervised"]
    supervised: Supervised = Supervised()


class DPOMethod(Strict):
    """`method` of DPO."""

    type: Literal["dpo"]
    dpo: DPO = DPO()


class NewFineTuningJob(Strict):
    """The body of a creation."""

    model: Text
    training_file: Text
    validation_file: Text | None = None
    method: Annotated[SupervisedMethod | DPOMethod, Field(discriminator="type")] | None = None
    hyperparameters: Hyperparameters | None = None
    suffix: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\x20-\x7e]+$")] | None = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    metadata: Metadata | None = None

    @property
    def chosen(self) -> SupervisedMethod | DPOMethod:
        """The method; supervised where none is named."""
        return self.method or SupervisedMethod(
            type="supervised",
            supervised=Supervised(hyperparameters=self.hyperparameters or Hyperparameters()),
        )

    def order(self) -> Order:
        """The training job that this is."""
        method = self.chosen
        asked = method.dpo.hyperparameters if method.type == "dpo" else method.supervised.hyperparameters
        kind = "dpo" if method.type == "dpo" else "sft"
        seed = 42 if self.seed is None else self.seed
        config: dict[str, Any] = {
            "model_name_or_path": self.model,
            "data_path": [self.training_file],
            "seed": seed,
        }
        if self.validation_file is not None:
            config["eval_data_path"] = [self.validation_file]
        about = {**self.model_dump(mode="json"), "seed": seed, "type": method.type}
        return Order(kind, config | _keys(asked, kind), "fine_tuning", about | {"asked": asked.model_dump()})


def _keys(asked: Hyperparameters, kind: str) -> dict[str, Any]:
    """The config's keys for hyperparameters that are not `auto`."""
    keys: dict[str, Any] = {}
    if asked.n_epochs != "auto":
        keys["num_train_epochs"] = float(asked.n_epochs)
    if asked.batch_size != "auto":
        keys["per_device_train_batch_size"] = asked.batch_size
    if asked.learning_rate_multiplier != "auto":
        usual = (DPOConfig if kind == "dpo" else SFTConfig).model_fields["learning_rate"].default
        keys["learning_rate"] = usual * asked.learning_rate_multiplier
    if isinstance(asked, DPOHyperparameters) and asked.beta != "auto":
        keys["beta"] = asked.beta
    return keys


class FineTuningError(BaseModel):
    """Why a job failed."""

    code: str
    message: str
    param: str | None


class FineTuningJob(BaseModel):
    """OpenAI's fine-tuning job."""

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    error: FineTuningError | None
    estimated_finish: int | None = None
    fine_tuned_model: str | None
    finished_at: int | None
    hyperparameters: dict[str, Any]
    integrations: list[Any] = []
    metadata: dict[str, str] | None
    method: dict[str, Any]
    model: str
    organization_id: str
    result_files: list[str] = []
    seed: int
    status: Status
    trained_tokens: int | None = None
    training_file: str
    validation_file: str | None


class Event(BaseModel):
    """OpenAI's event of a job."""

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any]


class Checkpoint(BaseModel):
    """OpenAI's checkpoint; its model can be named in a request while its folder is kept."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    metrics: dict[str, float]
    step_number: int


def shown_job(job: JobRow) -> FineTuningJob:
    """A row as OpenAI's job."""
    about = job.about
    values = _shown_hyperparameters(about)
    return FineTuningJob(
        id=job.id,
        created_at=int(job.created_at),
        error=_error(job),
        fine_tuned_model=job.model_id,
        finished_at=None if job.finished_at is None else int(job.finished_at),
        hyperparameters={name: value for name, value in values.items() if name != "beta"},
        metadata=about.get("metadata"),
        method={"type": about["type"], about["type"]: {"hyperparameters": values}},
        model=about["model"],
        organization_id=job.owner_name,
        seed=about["seed"],
        status=_STATUS[job.state],
        trained_tokens=about.get("trained_tokens"),
        training_file=about["training_file"],
        validation_file=about.get("validation_file"),
    )


def _shown_hyperparameters(about: dict[str, Any]) -> dict[str, Any]:
    """What was asked for, with the platform's choice for `auto`."""
    chosen = {
        "n_epochs": _EPOCHS,
        "batch_size": _BATCH_SIZE,
        "learning_rate_multiplier": 1.0,
        "beta": _BETA,
    }
    return {name: chosen[name] if value == "auto" else value for name, value in about["asked"].items()}


def _error(job: JobRow) -> FineTuningError | None:
    if job.state not in ("failed", "lost"):
        return None
    wrong_data = job.state == "failed" and job.exit_code == _BAD_INPUT
    code = "invalid_training_file" if wrong_data else ("lost" if job.state == "lost" else "training_failed")
    return FineTuningError(
        code=code, message=job.message or job.state, param="training_file" if wrong_data else None
    )


def shown_event(event: EventRow) -> Event:
    """A row as OpenAI's event."""
    values: dict[str, Any] = {"level": event.level, "type": event.type}
    return Event(
        id=event.id,
        created_at=int(event.created_at),
        message=event.message,
        data={**(event.data or {}), **_openais(event.data or {})},
        **values,
    )


def _openais(figures: Mapping[str, Any]) -> dict[str, float]:
    """Figures by the names that OpenAI has for them."""
    names = (("loss", "train_loss"), ("eval_loss", "valid_loss"))
    found = {shown: figures[name] for name, shown in names if name in figures}
    return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}


def shown_checkpoint(job: JobRow, model: str, row: ArtefactRow, metrics: list[MetricRow]) -> Checkpoint:
    """A checkpoint folder as OpenAI's checkpoint, with the figures logged at its step."""
    step = row.step or 0
    figures: dict[str, float] = {"step": float(step)}
    for line in metrics:
        if line.step == step:
            figures |= _openais(line.figures)
    return Checkpoint(
        id=row.id,
        created_at=int(row.created_at),
        fine_tuned_model_checkpoint=ModelCheckpoint(model, step).name,
        fine_tuning_job_id=job.id,
        metrics=figures,
        step_number=step,
    )
