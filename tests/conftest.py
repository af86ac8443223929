"""Fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]

# No test talks to the network, and neither does a process that one starts.
os.environ.update(WANDB_MODE="offline", WANDB_ERROR_REPORTING="false", MLFLOW_DISABLE_TELEMETRY="true")
os.environ.pop("MLFLOW_TRACKING_URI", None)

# The machine may be busy, so no deadline; HYPOTHESIS_PROFILE=thorough looks longer.
settings.register_profile("default", deadline=None, max_examples=60)
settings.register_profile("thorough", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real data sets beside the repository; skips where it is absent."""
    folder = ROOT.parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("real data is absent: no folder 'shared/data' beside the repository")
    return folder


@pytest.fixture(scope="session")
def demo_model() -> Path:
    """The demo model's folder; skips where it has not been fetched."""
    folder = ROOT / "models" / "smollm2-135m-instruct"
    if not (folder / "config.json").is_file():
        pytest.skip("the demo model is absent: autoalign-cli models fetch smollm2-135m-instruct")
    return folder
