"""Model folders for the engine without a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write(root: Path, name: str, weights: str = "w", **settings: Any) -> Path:
    """A folder that looks like a model; `settings` say how its engine behaves (`serving/served/fake.py`)."""
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("config.json", "tokenizer.json"):
        (folder / file).write_text("{}")
    (folder / "fake.json").write_text(json.dumps(settings))
    (folder / "model.safetensors").write_text(weights)
    return folder
