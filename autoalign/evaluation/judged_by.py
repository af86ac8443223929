"""How a job tells good answers from bad ones, as far as its config says: what verdicts hold for.

Answers do not follow from it, so that with `--reuse` it may change: what was answered is judged anew.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from autoalign import chat, manifest
from autoalign.config.evaluate import EvalConfig
from autoalign.errors import ModelError, TemplateError

_HOW = (
    *("judge_model", "judge_template", "judge_prompt", "judge_max_new_tokens", "judge_guided"),
    *("safety_by", "guard_prompt", "reward_model"),
)
KEYS = (*_HOW, "judge_backend", "judge_base_url")


def digest(config: EvalConfig) -> str:
    """A hash of the keys and of what stands in the files and folders that they name."""
    files = [Path(name) for name in (config.judge_prompt or "", config.guard_prompt)]
    contents = [manifest.file_sha256(file) if file.is_file() else None for file in files]
    keys = [getattr(config, key) for key in _HOW]
    template, reward = template_digest(config.judge_template), model_digest(config.reward_model)
    given = (keys, contents, template, reward, *_judges(config))
    return hashlib.blake2b(repr(given).encode("utf-8", "replace"), digest_size=16).hexdigest()


def _judges(config: EvalConfig) -> list[object]:
    """Where judges run, and their weights, which may change under a folder's name; nothing without judges."""
    if not config.judge_model:
        return []
    backend = "openai" if config.judge_base_url is not None else config.judge_backend
    return [backend, config.judge_base_url, *map(model_digest, config.judge_model)]


def template_digest(name: str | None) -> str | None:
    """None for the model's own, and where there is none of that name."""
    try:
        return None if name is None else chat.get_template(name).digest
    except TemplateError:
        return None


def model_digest(folder: str | Path | None) -> str | None:
    """None where weights are elsewhere, or not safetensors."""
    try:
        return None if folder is None else manifest.model_digest(Path(folder).expanduser())
    except ModelError:
        return None
