"""`autoalign.json`: what made a model folder, and the hash of every file in it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from autoalign import __version__
from autoalign.atomic_files import write_text
from autoalign.errors import ModelError

MANIFEST_NAME = "autoalign.json"
_BLOCK = 1 << 16
_SAMPLES = 64
TOKENIZER_FILES = (
    *("chat_template.jinja", "chat_template.json", "tokenizer_config.json", "tokenizer.json"),
    *("special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt"),
    *("tokenizer.model", "tekken.json", "*.tiktoken"),
)
"""What renders a prompt and makes ids of it, as patterns of names in a model folder."""
_GENERATION = "generation_config.json"  # its end tokens end texts


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a whole file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write JSON to a temporary name beside `path`, then rename: never a torn file."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read(folder: Path) -> dict[str, Any]:
    """The manifest of a model folder; empty where there is none, or a damaged one."""
    path = folder / MANIFEST_NAME
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # torn JSON, or bytes that are no UTF-8
        return {}
    return content if isinstance(content, dict) else {}


def now() -> str:
    """The time in UTC, as a manifest's `created` has it; later ones sort behind."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def write(folder: Path, content: Mapping[str, Any], moved: Callable[[], None] = lambda: None) -> None:
    """Write the manifest last: code version, time, `content`, and every file's SHA-256.

    Args:
        moved: called after each file.
    """
    files: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != MANIFEST_NAME:
            files[str(path.relative_to(folder))] = file_sha256(path)
            moved()
    write_json(
        folder / MANIFEST_NAME,
        {"autoalign_version": __version__, "created": now(), **content, "files": files},
    )


def damaged_files(folder: Path) -> list[str]:
    """Files that are missing or differ from the manifest's hashes; so does a missing or torn manifest."""
    files = read(folder).get("files")
    if not isinstance(files, dict):
        return [MANIFEST_NAME]
    return [
        name
        for name, digest in files.items()
        if not (folder / name).is_file() or file_sha256(folder / name) != digest
    ]


def model_digest(folder: Path) -> str:
    """A digest of a model folder's weights and config, in milliseconds even for 140 GB.

    Whole small files, and of each large one its size, its first block and 64 blocks
    spread evenly over it. It tells models apart; it does not prove integrity (the
    manifest's hashes do).

    Raises:
        ModelError: the folder holds no config.json or no safetensors weights.
    """
    weights = sorted(folder.glob("*.safetensors"))
    config = folder / "config.json"
    if not config.is_file() or not weights:
        raise ModelError(f"{folder}: not a model folder (config.json and *.safetensors are expected)")
    digest = hashlib.sha256(config.read_bytes())
    for path in weights:
        digest.update(_sampled(path))
    return digest.hexdigest()


def text_digest(folder: Path) -> str:
    """A digest of all in a model folder that its texts depend on.

    That is `model_digest`, the tokenizer with its chat template, and the generation settings.

    Raises:
        ModelError: the folder holds no config.json or no safetensors weights.
    """
    digest = hashlib.sha256(model_digest(folder).encode())
    found = {path for name in (*TOKENIZER_FILES, _GENERATION) for path in folder.glob(name)}
    for path in sorted(path for path in found if path.is_file()):
        digest.update(f"{path.name}:{file_sha256(path)}\n".encode())
    return digest.hexdigest()


def _sampled(path: Path) -> bytes:
    size = path.stat().st_size
    digest = hashlib.sha256(f"{path.name}:{size}".encode())
    stride = max(_BLOCK, size // _SAMPLES)
    with path.open("rb") as file:
        for offset in range(0, size, stride):
            file.seek(offset, os.SEEK_SET)
            digest.update(file.read(_BLOCK))
    return digest.digest()
