"""MLflow: where MLFLOW_TRACKING_URI says, else a database in OUTPUT_DIR."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autoalign.errors import MissingDependency
from autoalign.training.trackers._tracker import BEGINNING, Outcome, Position, TrackedRun

_MOST_PARAMS = 100  # in one request
_LONGEST_VALUE = 500  # characters; older servers refuse more
_STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}


def require() -> None:
    """Raises MissingDependency when it is not installed."""
    needed = ("mlflow",) if os.environ.get("MLFLOW_TRACKING_URI") else ("mlflow", "sqlalchemy", "alembic")
    if any(importlib.util.find_spec(name) is None for name in needed):
        raise MissingDependency("--report_to mlflow needs it: pip install 'autoalign[track]'")


def start(run: TrackedRun) -> MLflow:
    """Begin a run in the experiment named like the project, or go on with the one of that id."""
    return MLflow(run)


class MLflow:
    """One run, through the client: nothing global is set but what the environment left open."""

    def __init__(self, run: TrackedRun) -> None:
        # A server that is away would hold each call for minutes, and the next try comes anyway.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow.tracking import MlflowClient

        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{run.output_dir / 'mlflow.db'}"
        self._client: Any = MlflowClient(tracking_uri=uri)
        self.run_id = run.run_id or self._begin(run)
        self.sent = BEGINNING if run.run_id is None else self._go_on()
        self.place = uri

    def _begin(self, run: TrackedRun) -> str:
        from mlflow.entities import Param

        found = self._client.get_experiment_by_name(run.project)
        artifacts = None if os.environ.get("MLFLOW_TRACKING_URI") else run.output_dir / "mlartifacts"
        experiment = (
            found.experiment_id
            if found
            else self._client.create_experiment(
                run.project, artifact_location=artifacts.as_uri() if artifacts else None
            )
        )
        run_id: str = self._client.create_run(
            experiment, run_name=run.name, tags={"job": run.job}
        ).info.run_id
        params = [Param(key, str(value)[:_LONGEST_VALUE]) for key, value in run.config.items()]
        for first in range(0, len(params), _MOST_PARAMS):
            self._client.log_batch(run_id, params=params[first : first + _MOST_PARAMS])
        return run_id

    def _go_on(self) -> Position:
        """The last line that the store has: logging it again would double its points."""
        self._client.update_run(self.run_id, status="RUNNING")
        lines = [
            Position(metric.step, is_evaluation)
            for name, is_evaluation in (("train/epoch", False), ("eval/loss", True))
            for metric in self._client.get_metric_history(self.run_id, name)
        ]
        return max(lines, default=BEGINNING)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(
            self.run_id, metrics=[Metric(name, value, now, step) for name, value in figures.items()]
        )

    def picture(self, path: Path, step: int) -> None:
        self._client.log_artifact(self.run_id, str(path))

    def close(self, outcome: Outcome) -> None:
        self._client.set_terminated(self.run_id, _STATUS[outcome])
