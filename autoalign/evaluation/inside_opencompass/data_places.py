"""Where OpenCompass finds a data set: below the data folder, beside it, or in Hugging Face's cache."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

_FILE_TYPES = ("json", "csv", "text", "parquet")  # readers of Hugging Face's, whose data `data_files` names


class Place(NamedTuple):
    """Where a set's data should be.

    Attributes:
        told: the place, for messages; None where the config names none.
        given: what the config's `path` has to become, because OpenCompass would not look there.
    """

    told: str | None = None
    found: bool = True
    given: str | None = None


def place_of(
    dataset: Mapping[str, Any], mapping: Mapping[str, Mapping[str, str]], data_folder: Path, hub_cache: Path
) -> Place:
    """The place of a dataset config.

    Args:
        mapping: OpenCompass's ids of data sets, each with its `local` path.
        hub_cache: of Hugging Face's datasets, for those that OpenCompass has from there.
    """
    path = dataset.get("data_files" if dataset.get("path") in _FILE_TYPES else "path")
    if not isinstance(path, str) or not path:
        return Place()
    local = mapping.get(path, {}).get("local")
    where = Path(local or path)
    if where.is_absolute():
        return Place(str(where), where.exists())
    if where.parts[0] == "data":
        where = data_folder.joinpath(*where.parts[1:])
        return Place(str(where), where.exists())
    if local:
        where = data_folder.parent / where
        return Place(str(where), where.exists())
    return _of_hub(path, dataset.get("name"), data_folder, hub_cache)


def cache_folder(variables: Mapping[str, str]) -> Path:
    """Where Hugging Face's datasets keeps what it has loaded."""
    home = Path(variables.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    cache = variables.get("HF_DATASETS_CACHE") or Path(variables.get("HF_HOME") or home) / "datasets"
    return Path(os.path.expandvars(cache)).expanduser()


def _of_hub(path: str, name: object, data_folder: Path, cache: Path) -> Place:
    """Of a set that is loaded by its name on the hub, or from a folder that holds the same."""
    for folder in (data_folder / path, data_folder.parent / path):
        if folder.exists():
            lacking = _lacking(folder, name)
            return Place(f"{folder}{lacking}", not lacking, None if lacking else str(folder))
    wanted = _plain(path)
    for known in sorted(cache.glob("*/")):
        if _plain(known.name) == wanted and any(known.glob(f"{name or '*'}/*/*/dataset_info.json")):
            return Place(str(known))
    return Place(f"{data_folder / path}, and the cache {cache}", found=False)


def _lacking(folder: Path, name: object) -> str:
    """What a copy of a hub's folder lacks; an empty text where it is whole."""
    if folder.is_dir() and not any(folder.iterdir()):
        return " (an empty folder)"
    readme = folder / "README.md"
    text = readme.read_text(encoding="utf-8", errors="replace") if readme.is_file() else ""
    if name and (folder / str(name)).is_dir() and f"config_name: {name}" not in text:
        return f" (no README.md that names its config {name}: the whole of the hub's folder is needed)"
    return ""


def _plain(name: str) -> str:
    """The cache writes ORG___DATA_SET for ORG/DataSet."""
    return name.replace("/", "").replace("_", "").lower()
