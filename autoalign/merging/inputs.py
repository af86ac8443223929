"""The models that a merge names: paths, weights, adapters with their bases."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from autoalign import manifest, model_folder
from autoalign.config.merge import MergeConfig
from autoalign.errors import ConfigError
from autoalign.merging import adapter
from autoalign.merging.methods import Method
from autoalign.merging.source import ModelFolder, Source, open_model, read_json


class Named(NamedTuple):
    """One entry of `models`; `weight` is None where none was written."""

    path: str
    weight: float | None


@dataclass(frozen=True)
class Inputs:
    """What is merged, opened."""

    models: list[Source]
    weights: tuple[float, ...]
    base: Source | None

    @property
    def folders(self) -> list[Path]:
        """Every folder that is read."""
        found = {*(path for model in self.models for path in tokenizer_folders(model))}
        return sorted(found | ({self.base.folder} if self.base else set()))

    def record(self) -> dict[str, Any]:
        """For `autoalign.json`: each model's name, digest and weight, the base, the parent."""
        models = [
            {"name": model.label, "digest": digest(model.folder), "weight": weight}
            for model, weight in zip(self.models, self.weights, strict=True)
        ]
        parent = self.base or below(self.models[0])
        origin = {"name": parent.label, "digest": digest(parent.folder)}
        return {"models": models, **({"base_model": origin} if self.base else {}), "parent": origin}


def parse(entry: str) -> Named:
    """`PATH` or `PATH@WEIGHT`.

    Raises:
        ConfigError: the weight is infinite or no number.
    """
    path, at, number = entry.rpartition("@")
    if not at or Path(entry).exists():
        return Named(entry, None)
    try:
        weight = float(number)
    except ValueError:
        raise ConfigError(f"models: {entry}: a number is expected after '@', found '{number}'") from None
    if not math.isfinite(weight):
        raise ConfigError(f"models: {entry}: a finite weight is expected after '@', found {number}")
    return Named(path, weight)


def open_inputs(config: MergeConfig, method: Method) -> Inputs:
    """Find and open every model.

    Raises:
        ConfigError: weights, number of models or base don't suit the method.
        ModelError: a folder is missing, damaged or of another kind.
    """
    named = [parse(entry) for entry in config.models]
    weights = method.check(tuple(model.weight for model in named))
    opener = _Opener(config.base_model)
    models = [opener.open(model.path) for model in named]
    adapters = [isinstance(model, adapter.Adapter) for model in models]
    if method.adapters_only and not all(adapters):
        plain = models[adapters.index(False)].label
        raise ConfigError(f"method {method.name}: {plain} is no LoRA adapter (no {adapter.CONFIG_NAME})")
    if config.base_model and not method.needs_base and not any(adapters):
        raise ConfigError(
            f"base_model is given, but method {method.name} has no use for it; list it in models"
        )
    return Inputs(models, weights, opener.base_of(models, method) if method.needs_base else None)


@dataclass
class _Opener:
    """Opens each model folder once, and gives adapters their base."""

    base_model: str | None
    opened: dict[Path, ModelFolder] = field(default_factory=dict)

    def open(self, name: str) -> Source:
        folder = Path(name).expanduser()
        if not adapter.is_adapter(folder):
            return self._model(name)
        return adapter.open_adapter(name, folder.resolve(), self._adapter_base(name, folder))

    def base_of(self, models: Sequence[Source], method: Method) -> Source:
        if self.base_model:
            return self._model(self.base_model)
        bases = {model.base.folder: model.base for model in models if isinstance(model, adapter.Adapter)}
        if len(bases) != 1 or not all(isinstance(model, adapter.Adapter) for model in models):
            raise ConfigError(
                f"method {method.name} needs --base_model, the model that all were trained from"
                + (f"; the adapters name {len(bases)} bases" if len(bases) > 1 else "")
            )
        return next(iter(bases.values()))

    def _adapter_base(self, name: str, folder: Path) -> ModelFolder:
        base = self.base_model or read_json(folder / adapter.CONFIG_NAME).get("base_model_name_or_path")
        if not base:
            raise ConfigError(f"{name} doesn't name its base model; give --base_model")
        return self._model(str(base))

    def _model(self, name: str) -> ModelFolder:
        folder = model_folder.find(name)
        if folder not in self.opened:
            self.opened[folder] = open_model(name, folder)
        return self.opened[folder]


def tokenizer_folders(model: Source) -> list[Path]:
    """Where its tokenizer files are, the folder that counts most last."""
    return list(dict.fromkeys([below(model).folder, model.folder]))


def digest(folder: Path) -> str:
    """A digest of a model's, or an adapter's, weights and config."""
    if not adapter.is_adapter(folder):
        return manifest.model_digest(folder)
    hashes = [manifest.file_sha256(folder / name) for name in (adapter.CONFIG_NAME, adapter.WEIGHTS_NAME)]
    return hashlib.sha256(" ".join(hashes).encode()).hexdigest()


def below(model: Source) -> Source:
    """An adapter's base; another model itself."""
    return model.base if isinstance(model, adapter.Adapter) else model
