"""`--reuse` goes on with the same evaluation alone: of the same model, asked in the same way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from autoalign import manifest
from autoalign.atomic_files import write_text
from autoalign.config.evaluate import EvalConfig
from autoalign.errors import ConfigError, ModelError
from autoalign.evaluation.layout import Layout

# Keys that change answers or scores; where a model is served and where data lies may change.
_KEYS = (
    *("template_name", "limit", "num_runs", "temperature", "seed", "max_new_tokens", "dtype"),
    *("judge_model", "judge_prompt", "judge_max_new_tokens", "judge_guided", "safety_by", "reward_model"),
)
_DIGEST = "model_digest"


def note(layout: Layout, config: EvalConfig, folder: Path | None) -> None:
    """Write eval.json: the config, and what the model is."""
    told = {**config.model_dump(), _DIGEST: _digest(folder)}
    write_text(layout.keys, json.dumps(told, indent=1, default=str) + "\n")


def require_same(layout: Layout, config: EvalConfig, folder: Path | None) -> None:
    """Raises ConfigError where an earlier run into the folder was another evaluation, with what differs."""
    if told := unlike(layout, config, folder):
        raise ConfigError(
            f"--reuse: {layout.folder} is another evaluation ({'; '.join(told)}): give what it was given, or "
            "--force to start anew, or another --model_id"
        )


def unlike(layout: Layout, config: EvalConfig, folder: Path | None) -> list[str]:
    """What differs from the earlier run; nothing where there was none."""
    if not layout.keys.is_file():
        return []
    before: dict[str, Any] = json.loads(layout.keys.read_text(encoding="utf-8"))
    now = json.loads(json.dumps(config.model_dump(), default=str))
    told = [
        f"{key} was {_text(before[key])}, is {_text(now[key])}"
        for key in _KEYS
        if key in before and before[key] != now[key]
    ]
    if before.get(_DIGEST) and before[_DIGEST] != _digest(folder):
        told.insert(0, "the model's weights have changed")
    return told


def _digest(folder: Path | None) -> str | None:
    """None where weights are elsewhere, or not safetensors."""
    try:
        return None if folder is None else manifest.model_digest(folder)
    except ModelError:
        return None


def _text(value: Any) -> str:
    return (
        "none"
        if value in (None, [])
        else ", ".join(map(str, value))
        if isinstance(value, list)
        else str(value)
    )
