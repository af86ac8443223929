"""Find the model that a job names, and load its tokenizer: one way for all commands."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autoalign import hub
from autoalign.errors import MissingDependency, ModelError

_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")


def find(name: str, *, fetch: bool = False) -> Path:
    """The folder of a model: a path as it is, or `ORG/NAME` from the Hugging Face cache.

    Args:
        fetch: download a hub model that is not in the cache.

    Raises:
        ModelError: there is none, or its config, safetensors weights or tokenizer are missing.
    """
    folder = _folder(name, fetch, hub.WANTED_FILES)
    if missing := hub.missing_parts(folder):
        raise ModelError(
            f"{name}: not a whole model folder: {', '.join(missing)} missing; copy them there, or fetch the "
            "model again"
        )
    return folder.resolve()


def find_tokenizer(name: str) -> Path:
    """Like `find` with `fetch`, for what needs no weights: a folder with a tokenizer alone will do.

    Raises:
        ModelError: there is no such folder, or no tokenizer in it.
    """
    folder = _folder(name, fetch=True, files=[kind for kind in hub.WANTED_FILES if kind != "*.safetensors"])
    if not hub.has_tokenizer(folder):
        raise ModelError(f"{name}: no tokenizer in this folder; tokenizer.json is expected")
    return folder.resolve()


def load_tokenizer(folder: str | Path, trust_remote_code: bool = False) -> Any:
    """The tokenizer in a model folder.

    Raises:
        ModelError: transformers can't load it.
        MissingDependency: transformers is not installed.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise MissingDependency("a tokenizer needs transformers: pip install 'autoalign[train]'") from None
    try:
        return AutoTokenizer.from_pretrained(str(folder), trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder}: the tokenizer can't be loaded: {error}") from None


def context_length(folder: Path) -> int | None:
    """How many tokens the model holds, prompt and answer together; None where its config does not say.

    Raises:
        ModelError: `config.json` is not JSON.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{folder / 'config.json'}: not valid JSON: {error}") from None
    for part in (config, config.get("text_config") or {}):
        for key in _CONTEXT_KEYS:
            if isinstance(part.get(key), int):
                return int(part[key])
    return None


def _folder(name: str, fetch: bool, files: Sequence[str]) -> Path:
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if not hub.is_repo_id(name):
        raise ModelError(
            f"{name}: no such model folder; 'autoalign-cli models fetch NAME' gets the demo model "
            "(smollm2-135m-instruct) or one from the Hugging Face hub (ORG/NAME)"
        )
    return _from_hub(name, fetch, files)


def _from_hub(name: str, fetch: bool, files: Sequence[str]) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise MissingDependency("hub models need huggingface_hub: pip install 'autoalign[train]'") from None
    try:
        folder = snapshot_download(
            name,
            local_files_only=not fetch,
            allow_patterns=list(files),
            ignore_patterns=list(hub.UNWANTED_FILES),
        )
        return Path(folder)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{name}: no such folder, and no hub model of that name can be had ({reason}); give the path "
            "of a model folder, or see 'autoalign-cli models fetch --help'"
        ) from None
