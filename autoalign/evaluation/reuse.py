"""`--reuse` goes on with the same evaluation alone: of the same model, asked in the same way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from autoalign import chat, manifest
from autoalign.atomic_files import write_text
from autoalign.config.evaluate import EvalConfig
from autoalign.errors import ConfigError, ModelError, TemplateError
from autoalign.evaluation.layout import Layout

# Keys that change answers or scores; where a model is served and where data lies may change.
_KEYS = (
    *("template_name", "limit", "num_runs", "temperature", "seed", "max_new_tokens", "dtype"),
    *("max_model_len", "judge_model", "judge_template", "judge_prompt", "judge_max_new_tokens"),
    *("judge_guided", "safety_by", "reward_model"),
)
_DIGEST, _CONTENTS = "model_digest", "contents"
_TOKENIZER = ("chat_template.jinja", "tokenizer_config.json", "tokenizer.json")


def note(layout: Layout, config: EvalConfig, folder: Path | None) -> None:
    """Write eval.json: the config, what the model is, and digests of what else the config names."""
    told = {**config.model_dump(), _DIGEST: _digest(folder), _CONTENTS: _contents(config, folder)}
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
    # A model without a digest is known by its name alone.
    keys = _KEYS if before.get(_DIGEST) else ("model_path", *_KEYS)
    changed = [key for key in keys if key in before and before[key] != now[key]]
    told = [f"{key} was {_text(before[key])}, is {_text(now[key])}" for key in changed]
    contents = _contents(config, folder)
    then = before.get(_CONTENTS, contents)
    told += [
        f"the contents of {name} have changed"
        for name in dict.fromkeys([*then, *contents])
        if name not in changed and then.get(name) != contents.get(name)
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


def _contents(config: EvalConfig, folder: Path | None) -> dict[str, str]:
    """Digests of what may change under a name that stays: templates, prompts, the model's tokenizer."""
    files = {name: folder / name for name in _TOKENIZER} if folder is not None else {}
    files["judge_prompt"] = Path(config.judge_prompt or "")
    found = {name: manifest.file_sha256(file) if file.is_file() else None for name, file in files.items()}
    found["template_name"] = _template(config.template_name)
    found["judge_template"] = _template(config.judge_template)
    found["reward_model"] = _digest(Path(config.reward_model).expanduser() if config.reward_model else None)
    return {name: digest for name, digest in found.items() if digest is not None}


def _template(name: str | None) -> str | None:
    """None for the model's own, and where there is none of that name."""
    try:
        return None if name is None else chat.get_template(name).digest
    except TemplateError:
        return None


def _text(value: Any) -> str:
    return (
        "none"
        if value in (None, [])
        else ", ".join(map(str, value))
        if isinstance(value, list)
        else str(value)
    )
