"""Find the model that a job names, and load its tokenizer: one way for all commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autoalign import hub
from autoalign.errors import MissingDependency, ModelError


def find(name: str, *, fetch: bool = False) -> Path:
    """The folder of a model: a path as it is, or `ORG/NAME` from the Hugging Face cache.

    Args:
        fetch: download a hub model that is not in the cache.

    Raises:
        ModelError: there is none, or its config, safetensors weights or tokenizer are missing.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        folder = _from_hub(name, fetch)
    if missing := hub.missing_parts(folder):
        raise ModelError(f"{name}: not a whole model folder: {', '.join(missing)} missing")
    return folder.resolve()


def load_tokenizer(folder: str | Path, trust_remote_code: bool = False) -> Any:
    """The tokenizer in a model folder.

    Raises:
        ModelError: transformers can't load it, or it is no fast tokenizer.
        MissingDependency: transformers is not installed.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise MissingDependency("a tokenizer needs transformers: pip install 'autoalign[train]'") from None
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder}: the tokenizer can't be loaded: {error}") from None
    if not tokenizer.is_fast:
        raise ModelError(f"{folder}: a fast tokenizer (tokenizer.json) is needed to know where tokens stand")
    return tokenizer


def _from_hub(name: str, fetch: bool) -> Path:
    if not hub.is_repo_id(name):
        raise ModelError(
            f"{name}: no such model folder; 'autoalign-cli models fetch NAME' gets the demo model "
            "(smollm2-135m-instruct) or one from the Hugging Face hub (ORG/NAME)"
        )
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise MissingDependency("hub models need huggingface_hub: pip install 'autoalign[train]'") from None
    try:
        folder = snapshot_download(
            name,
            local_files_only=not fetch,
            allow_patterns=list(hub.WANTED_FILES),
            ignore_patterns=list(hub.UNWANTED_FILES),
        )
        return Path(folder)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{name}: no such folder, and no hub model of that name can be had ({reason}); give the path "
            "of a model folder, or see 'autoalign-cli models fetch --help'"
        ) from None
