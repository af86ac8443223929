"""The merged model's folder: written under a temporary name, renamed when it is whole."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from autoalign.errors import ConfigError, JobFailed

# What makes a tokenizer, and how answers are generated.
_COPIED = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "*.tiktoken",
    "tekken.json",
    "chat_template*",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
)


def refuse_output(folder: Path, inputs: Iterable[Path], overwrite: bool) -> None:
    """Refuse an output folder in which something would be lost, before any work.

    Raises:
        ConfigError: it is a file, holds other things, or is one of the models read.
    """
    target = folder.resolve()
    for path in inputs:
        if target == path or target in path.parents or path in target.parents:
            raise ConfigError(f"output_dir {folder} is, holds or is in a model that is read ({path})")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"output_dir {folder} is a file; give a folder")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not (folder / "config.json").is_file():
        raise ConfigError(f"output_dir {folder} holds other things and no model; give a new or empty folder")
    if not overwrite:
        raise ConfigError(
            f"output_dir {folder} holds a model; give --overwrite to replace it, or a new folder"
        )


@contextlib.contextmanager
def written_whole(folder: Path, needed: int) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its name at the end; gone after an error.

    Args:
        needed: bytes that will be written.

    Raises:
        ConfigError: the disk lacks the room, or the folder can't be made.
        JobFailed: writing failed.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        # A merge that was killed left it.
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    except OSError as error:
        raise ConfigError(f"output_dir {folder} can't be made: {error.strerror}") from None
    try:
        _require_room(partial, folder, needed)
        yield partial
        _put(partial, folder)
    except OSError as error:
        raise JobFailed(f"output_dir {folder}: the merge stopped: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def copy_tokenizer(sources: Iterable[Path], target: Path) -> None:
    """Tokenizer, chat template and generation settings; files of a later source replace an earlier's."""
    for source in sources:
        for pattern in _COPIED:
            for path in source.glob(pattern):
                if path.is_file():
                    shutil.copyfile(path, target / path.name)


def merged_config(config: Mapping[str, Any], dtype: str | None) -> dict[str, Any]:
    """`config.json` with another `dtype` where one is given, nested configs alike."""
    if dtype is None:
        return dict(config)
    result: dict[str, Any] = {}
    for key, value in config.items():
        nested = key.endswith("_config") and isinstance(value, Mapping)
        result[key] = merged_config(value, dtype) if nested else value
        if key in ("dtype", "torch_dtype"):
            result[key] = dtype
    return result


def _require_room(partial: Path, folder: Path, needed: int) -> None:
    free = shutil.disk_usage(partial).free
    if free < needed:
        raise ConfigError(
            f"output_dir {folder}: {free / 1e9:.1f} GB are free, the merged model takes "
            f"{needed / 1e9:.1f} GB; free some, or give another --output_dir"
        )


def _put(partial: Path, folder: Path) -> None:
    """Only a whole new model makes an older one go."""
    if not folder.exists():
        partial.replace(folder)
        return
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    folder.replace(old)
    partial.replace(folder)
    shutil.rmtree(old)
