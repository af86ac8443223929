"""What a training job is, between the driver and its workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from autoalign import chat
from autoalign.config.train import TrainConfig
from autoalign.training.tokens import RowTable

if TYPE_CHECKING:
    from autoalign.training.objective import Objective


@dataclass(frozen=True)
class TrainTask:
    """All a worker needs beside the rows: the config, the template, and where to start."""

    config: TrainConfig
    model_path: str
    template: chat.Template
    made_by: Mapping[str, Any]
    """Goes into every checkpoint's manifest."""
    resume_from: str | None = None
    """A checkpoint folder; None: the newest whole one in output_dir, if any."""
    objective: Callable[[], Objective] | None = None
    """Makes what the job minimises; None: the config's class says it."""
    began: str | None = None
    """When this run first went on from `resume_from`: what was saved since is its own. Of torchrun's
    processes the first alone knows it."""

    @property
    def output_dir(self) -> Path:
        """Where everything is written."""
        return Path(self.config.output_dir)


class Tables(NamedTuple):
    """The tokenised rows."""

    train: RowTable
    evaluation: RowTable | None = None


@dataclass(frozen=True)
class TrainReport:
    """What came out."""

    output_dir: Path
    steps: int
    tokens: int
    seconds: float
    loss: float
    eval_loss: float | None = None
    storage_problem: str | None = None
    """What did not get to storage_path, and why."""
