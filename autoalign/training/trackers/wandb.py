"""Weights & Biases: online, or with WANDB_MODE=offline in OUTPUT_DIR/wandb for `wandb sync`."""

from __future__ import annotations

import importlib.util
import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from autoalign.errors import ConfigError, MissingDependency
from autoalign.training.trackers._tracker import BEGINNING, Outcome, TrackedRun

_STEP = "train/global_step"


def require() -> None:
    """Raises InputError when it is not installed, or online without a login."""
    if importlib.util.find_spec("wandb") is None:
        raise MissingDependency("--report_to wandb needs it: pip install 'autoalign[track]'")
    online = os.environ.get("WANDB_MODE", "online") in ("online", "run", "shared")
    if online and not (os.environ.keys() & {"WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"} or _has_login()):
        raise ConfigError(
            "--report_to wandb: no login was found. Run `wandb login`, set WANDB_API_KEY, or keep the run "
            "on this machine with WANDB_MODE=offline"
        )


def _has_login() -> bool:
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def start(run: TrackedRun) -> WeightsAndBiases:
    """Begin a run, or go on with the one of that id."""
    return WeightsAndBiases(run)


class WeightsAndBiases:
    """One run; wandb's own process sends what it is given."""

    sent = BEGINNING

    def __init__(self, run: TrackedRun) -> None:
        import wandb

        self.run_id = run.run_id or uuid4().hex[:8]
        # The output folder is made by the job; wandb would fall back to a temporary one.
        self._run: Any = wandb.init(
            project=run.project,
            name=run.name,
            job_type=run.job,
            id=self.run_id,
            resume="allow",
            dir=str(run.output_dir),
            config=dict(run.config),
            allow_val_change=True,
            settings=wandb.Settings(console="off", silent=True),
        )
        # A step of wandb's own would have to rise with every line; evaluations share theirs.
        self._run.define_metric(_STEP, hidden=True)
        self._run.define_metric("*", step_metric=_STEP, step_sync=True)
        self.place = self._run.url or f"{run.output_dir / 'wandb'} (offline)"

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log({**figures, _STEP: step})

    def picture(self, path: Path, step: int) -> None:
        import wandb

        self._run.log({path.stem: wandb.Image(str(path)), _STEP: step})

    def close(self, outcome: Outcome) -> None:
        self._run.finish(exit_code=0 if outcome == "finished" else 1)
