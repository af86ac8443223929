"""TensorBoard: event files in OUTPUT_DIR/tensorboard."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from autoalign.errors import MissingDependency
from autoalign.training.trackers._tracker import BEGINNING, Outcome, TrackedRun


def require() -> None:
    """Raises MissingDependency when it is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise MissingDependency("--report_to tensorboard needs it: pip install 'autoalign[train]'")


def start(run: TrackedRun) -> TensorBoard:
    """A new event file; TensorBoard shows those of one folder as one run."""
    return TensorBoard(run)


class TensorBoard:
    """Every line is on disk before the next."""

    run_id = "tensorboard"
    sent = BEGINNING

    def __init__(self, run: TrackedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = run.output_dir / "tensorboard"
        self.place = str(folder)
        self._writer: Any = SummaryWriter(str(folder))
        if run.run_id is None:
            self._writer.add_text("config", f"```yaml\n{yaml.safe_dump(dict(run.config))}\n```")

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def picture(self, path: Path, step: int) -> None:
        from matplotlib import image

        self._writer.add_image(path.stem, image.imread(path), step, dataformats="HWC")

    def close(self, outcome: Outcome) -> None:
        self._writer.close()
