"""A LoRA adapter over its base model, read as if it were merged: W + s B A (arXiv:2106.09685).

With DoRA (arXiv:2402.09353, eq. 5) each output row is scaled to its learnt magnitude:
m (W + s B A) / |W + s B A|. Folders are those that PEFT saves.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from autoalign.errors import ModelError
from autoalign.merging.source import Source, read_json
from autoalign.merging.tensor_file import TensorFile, TensorSpec, open_tensors

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_PART = re.compile(r"(?P<module>.+)\.(?P<part>lora_[A-Za-z_]+|base_layer\.weight)(?:\.weight)?")
_PARTS = {"lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B", "lora_magnitude_vector"}


@dataclass(frozen=True)
class Update:
    """What an adapter adds to one weight.

    Args:
        left: (rows, rank).
        right: (rank, columns).
        scaling: alpha / rank, or alpha / sqrt(rank).
        magnitude: (rows,) of DoRA, or None.
    """

    left: Tensor
    right: Tensor
    scaling: float
    magnitude: Tensor | None

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the weight it is for."""
        return self.left.shape[0], self.right.shape[1]

    def apply(self, rows: Tensor, first: int) -> Tensor:
        """`rows` (n, columns) float64, the weight's rows from `first` on, with the update."""
        last = first + rows.shape[0]
        merged: Tensor = rows + self.scaling * (self.left[first:last] @ self.right)
        if self.magnitude is None:
            return merged
        factors: Tensor = self.magnitude[first:last] / torch.linalg.vector_norm(merged, dim=1)
        return factors[:, None].mul(merged)


@dataclass(frozen=True)
class Adapter:
    """A base model seen through an adapter.

    Args:
        updates: by the name of the base's tensor.
        replaced: tensors that were trained whole (`modules_to_save`, biases), to their names in `file`.
    """

    label: str
    folder: Path
    base: Source
    specs: Mapping[str, TensorSpec]
    updates: Mapping[str, Update]
    replaced: Mapping[str, str]
    file: TensorFile

    @property
    def config(self) -> dict[str, Any]:
        """The base's config.json, less the tie between embedding and head that training the head cut."""
        if any(name.endswith("lm_head.weight") for name in self.replaced):
            return {**self.base.config, "tie_word_embeddings": False}
        return self.base.config

    def read(self, name: str, start: int, stop: int) -> Tensor:
        """See `Source.read`; an updated weight comes as float64, not yet rounded."""
        if name not in self.updates:
            return self._before(name, start, stop)
        update = self.updates[name]
        columns = update.shape[1]
        first, last = start // columns, -(-stop // columns)
        rows = self._before(name, first * columns, last * columns).double().view(-1, columns)
        merged = update.apply(rows, first).flatten()
        return merged[start - first * columns : stop - first * columns]

    def _before(self, name: str, start: int, stop: int) -> Tensor:
        if name in self.replaced:
            return self.file.read(self.replaced[name], start, stop)
        return self.base.read(name, start, stop)


def is_adapter(folder: Path) -> bool:
    """Whether PEFT saved an adapter, and no whole model, there."""
    return (folder / CONFIG_NAME).is_file() and not (folder / "config.json").is_file()


def open_adapter(label: str, folder: Path, base: Source) -> Adapter:
    """Open an adapter over its base.

    Raises:
        ModelError: it is no LoRA adapter, its weights are missing, or they don't fit the base.
    """
    config = read_json(folder / CONFIG_NAME)
    if config.get("peft_type") != "LORA":
        raise ModelError(f"{label}: a LoRA adapter is expected, found peft_type {config.get('peft_type')!r}")
    if not (folder / WEIGHTS_NAME).is_file():
        raise ModelError(f"{label}: {WEIGHTS_NAME} is missing; pickled adapters are not read")
    file = open_tensors(folder / WEIGHTS_NAME)
    parts, replaced = _sort(label, file)
    updates = {
        f"{module}.weight": _update(f"{label}: {module}", found, module, config)
        for module, found in parts.items()
    }
    specs = dict(base.specs)
    for name, stored in replaced.items():
        if name not in specs and not name.endswith("lm_head.weight"):
            raise ModelError(f"{label}: tensor {name} is not in the base model {base.label}")
        # Heads and embeddings are often trained in float32; the merged model keeps the base's type.
        dtype = specs[name].dtype if name in specs else file.specs[stored].dtype
        specs[name] = TensorSpec(dtype, file.specs[stored].shape)
    for name, update in updates.items():
        _require_fit(label, name, update, specs.get(name))
    return Adapter(label, folder, base, specs, updates, replaced, file)


def _sort(label: str, file: TensorFile) -> tuple[dict[str, dict[str, Tensor]], dict[str, str]]:
    """Low-rank parts by module, and tensors that replace the base's."""
    parts: dict[str, dict[str, Tensor]] = {}
    replaced: dict[str, str] = {}
    for stored, spec in file.specs.items():
        name = stored.removeprefix(_PREFIX).replace(".modules_to_save", "")
        match = _PART.fullmatch(name)
        if match is None:
            replaced[name] = stored
        elif match["part"] == "base_layer.weight":
            replaced[f"{match['module']}.weight"] = stored
        elif match["part"] in _PARTS:
            values = file.read(stored, 0, spec.size).double().view(spec.shape)
            parts.setdefault(match["module"], {})[match["part"]] = values
        else:
            raise ModelError(f"{label}: tensor {stored} is no weight, so it can't be written into the base")
    return parts, replaced


def _update(place: str, parts: Mapping[str, Tensor], module: str, config: Mapping[str, Any]) -> Update:
    embedding = "lora_embedding_A" in parts
    kind = "lora_embedding_" if embedding else "lora_"
    if f"{kind}A" not in parts or f"{kind}B" not in parts:
        raise ModelError(f"{place}: {kind}A or {kind}B is missing from the adapter")
    a, b = parts[f"{kind}A"], parts[f"{kind}B"]
    if a.dim() != 2 or b.dim() != 2 or a.shape[0] != b.shape[1]:
        raise ModelError(f"{place}: {kind}A {tuple(a.shape)} and {kind}B {tuple(b.shape)} don't multiply")
    scaling = _alpha(module, config) / (math.sqrt(len(a)) if config.get("use_rslora") else len(a))
    magnitude = parts.get("lora_magnitude_vector")
    # Embeddings, and Conv1D of GPT-2, hold their weight the other way round.
    if not embedding and not config.get("fan_in_fan_out"):
        return Update(b, a, scaling, None if magnitude is None else magnitude.flatten())
    if magnitude is not None:
        raise ModelError(f"{place}: DoRA on an embedding or a Conv1D layer; merge it with PEFT's own code")
    return Update(a.T, b.T, scaling, None)


def _alpha(module: str, config: Mapping[str, Any]) -> float:
    for pattern, alpha in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return float(alpha)
    return float(config.get("lora_alpha", 8))


def _require_fit(label: str, name: str, update: Update, spec: TensorSpec | None) -> None:
    if spec is None:
        raise ModelError(f"{label}: tensor {name} is not in its base model")
    if spec.shape != update.shape:
        found, expected = _by(update.shape), _by(spec.shape)
        raise ModelError(f"{label}: tensor {name} is for {found}, but {expected} in its base model")
    if not spec.dtype.is_floating_point:
        raise ModelError(f"{label}: tensor {name} of the base holds whole numbers, no weights")


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
