"""Models as merging sees them: names, shapes, and stretches of tensors on request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from autoalign.errors import ModelError
from autoalign.merging.tensor_file import TensorFile, TensorSpec, open_tensors


class Source(Protocol):
    """One model of a merge.

    `label` is how the user named it, `folder` holds its tokenizer, `config` is its config.json.
    """

    @property
    def label(self) -> str: ...
    @property
    def folder(self) -> Path: ...
    @property
    def config(self) -> dict[str, Any]: ...
    @property
    def specs(self) -> Mapping[str, TensorSpec]: ...

    def read(self, name: str, start: int, stop: int) -> Tensor:
        """Elements `start` to `stop` of the flat tensor, (stop - start,)."""
        ...


@dataclass(frozen=True)
class ModelFolder:
    """A Hugging Face model folder with safetensors weights."""

    label: str
    folder: Path
    config: dict[str, Any]
    specs: Mapping[str, TensorSpec]
    files: Mapping[str, TensorFile]

    def read(self, name: str, start: int, stop: int) -> Tensor:
        """See `Source.read`."""
        return self.files[name].read(name, start, stop)


@dataclass(frozen=True)
class Renamed:
    """A source seen under other names; `names` maps each name to the one in `source`."""

    source: Source
    names: Mapping[str, str]

    @property
    def label(self) -> str:
        """See `Source`."""
        return self.source.label

    @property
    def folder(self) -> Path:
        """See `Source`."""
        return self.source.folder

    @property
    def config(self) -> dict[str, Any]:
        """See `Source`."""
        return self.source.config

    @property
    def specs(self) -> Mapping[str, TensorSpec]:
        """See `Source`."""
        return {name: self.source.specs[old] for name, old in self.names.items()}

    def read(self, name: str, start: int, stop: int) -> Tensor:
        """See `Source.read`."""
        return self.source.read(self.names[name], start, stop)


def open_model(label: str, folder: Path) -> ModelFolder:
    """Open every weight file of a model folder.

    Raises:
        ModelError: a file is damaged, quantised, or holds a tensor that another one holds too.
    """
    config = read_json(folder / "config.json")
    if "quantization_config" in config:
        raise ModelError(f"{label}: a quantised model can't be merged; give the weights it was made from")
    files: dict[str, TensorFile] = {}
    for path in _weight_files(folder):
        opened = open_tensors(path)
        for name in opened.specs:
            if name in files:
                raise ModelError(f"{label}: tensor {name} is in two files, {files[name].path} and {path}")
            files[name] = opened
    return ModelFolder(label, folder, config, {name: file.specs[name] for name, file in files.items()}, files)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ModelError: no such file, not JSON, or no object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise ModelError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path}: a JSON object is expected, found {type(content).__name__}")
    return content


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return [folder / name for name in sorted(set(read_json(index)["weight_map"].values()))]
    whole = folder / "model.safetensors"
    return [whole] if whole.is_file() else sorted(folder.glob("*.safetensors"))
