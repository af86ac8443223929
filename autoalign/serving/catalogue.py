"""Which models there are: folders under the configured roots, never outside of them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autoalign import hub
from autoalign.config.serve import ServeConfig
from autoalign.serving.registry import NoRegistry, Registry

_ADAPTER = "adapter_config.json"
_WEIGHTS = ("*.safetensors", "*.json", "*.jinja")
_PLAIN = re.compile(r"[^\W_][\w .:+=@-]{0,199}")


@dataclass(frozen=True)
class Served:
    """A model folder or a LoRA adapter that can be asked for.

    Args:
        id: what a request's `model` says.
        folder: where it lies, links resolved.
        digest: changes when the folder's files do.
        created: seconds since 1970.
        template: a chat template in place of the folder's own.
        base: of an adapter, what it was trained on, as its config says.
        registered: a job has made it; a served name may have meant other weights before.
    """

    id: str
    folder: Path
    digest: str
    created: int
    template: str | None = None
    base: str | None = None
    registered: bool = False


class Catalogue:
    """Looks the models up on disk each time, so that a job's new one is there at once.

    A name that a model was promoted to means that model, though the operator has named another one, or a
    folder of a root is called so; rolled back, it means that again.

    Args:
        roots: folders whose subfolders are models; a link that leads out of its root is passed over.
        pinned: id to (folder, template) of what the operator named; it may lie anywhere.
        registry: models that jobs have made, and names that they were promoted to.
        registry_roots: the folders that those may lie in.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        pinned: Mapping[str, tuple[Path, str | None]] | None = None,
        registry: Registry | None = None,
        registry_roots: Sequence[Path] = (),
    ) -> None:
        self._roots = [root.expanduser().resolve() for root in roots]
        self._registry = registry or NoRegistry()
        self._registry_roots = [root.expanduser().resolve() for root in registry_roots]
        self._pinned = {name: (path.resolve(), template) for name, (path, template) in (pinned or {}).items()}

    def all(self) -> list[Served]:
        """Every model, by id; the operator's first."""
        promoted = self._registry.served()
        below = (str(folder.relative_to(root)) for root in self._roots for folder in _candidates(root))
        names = dict.fromkeys([*self._pinned, *below, *promoted])
        found = (self._read_registered(name) if name in promoted else self._own(name) for name in names)
        return [served for served in found if served is not None]

    def find(self, name: str) -> Served | None:
        """The model of that id."""
        if name not in self._pinned and not _is_id(name):
            return None
        if name in self._registry.served():
            return self._read_registered(name)
        return self._own(name) or self._read_registered(name)

    def base_folder(self, name: str) -> Path | None:
        """The folder of the model of that id; None for an adapter, which is no model by itself."""
        served = self.find(name)
        return None if served is None or served.base is not None else served.folder

    def template_of(self, name: str) -> str | None:
        """The chat template that the operator serves the model of that id with; None: its folder's own."""
        served = self.find(name)
        return None if served is None else served.template

    def base_of(self, adapter: Served) -> Served | None:
        """The model that an adapter belongs to: by its folder, else by its name."""
        wanted = str(adapter.base)
        path = Path(wanted).expanduser().resolve()
        bases = [served for served in self.all() if served.base is None]
        same_folder = [served for served in bases if served.folder == path]
        same_name = [served for served in bases if served.id == path.name and not served.registered]
        return next(iter(same_folder + same_name), None)

    def has_adapters(self, base: Served) -> bool:
        """Whether an adapter of that model lies under the roots."""
        adapters = (served for served in self.all() if served.base is not None)
        return any(self.base_of(each) == base for each in adapters)

    def _own(self, name: str) -> Served | None:
        """What the operator has named so, or a root's folder of that name."""
        if name in self._pinned:
            folder, template = self._pinned[name]
            return _served(name, folder, template)
        below = (self._read(name, root / name) for root in self._roots)
        return next((served for served in below if served is not None), None)

    def _read(self, name: str, folder: Path) -> Served | None:
        real = folder.resolve()
        inside = any(real != root and real.is_relative_to(root) for root in self._roots)
        return _served(name, real) if inside and _is_id(name) else None

    def _read_registered(self, name: str) -> Served | None:
        folder = self._registry.find(name)
        if folder is None:
            return None
        real = folder.resolve()
        inside = any(real.is_relative_to(root) for root in self._registry_roots)
        served = _served(name, real) if inside else None
        return None if served is None else replace(served, registered=True)


def _is_id(name: str) -> bool:
    """A folder of a root, or its `adapter`: deeper down may lie what is not for everybody."""
    head, slash, tail = name.partition("/")
    return _PLAIN.fullmatch(head) is not None and (not slash or tail == "adapter")


def catalogue_of(config: ServeConfig, registry: Registry | None, registry_roots: Sequence[Path]) -> Catalogue:
    """The catalogue that a config describes."""
    pinned = {}
    if config.checkpoint_path is not None and config.default_model is not None:
        pinned[config.default_model] = (Path(config.checkpoint_path).expanduser(), config.template)
    return Catalogue([Path(root) for root in config.model_roots], pinned, registry, registry_roots)


def _candidates(root: Path) -> Iterator[Path]:
    """Folders at the first level of a root, and a trained model's own `adapter` folder."""
    if not root.is_dir():
        return
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        yield folder
        if (folder / "adapter" / _ADAPTER).is_file():
            yield folder / "adapter"


def _served(name: str, folder: Path, template: str | None = None) -> Served | None:
    """The model in a folder; None where there is no whole one, or where it is just being replaced."""
    try:
        if (folder / _ADAPTER).is_file():
            base = json.loads((folder / _ADAPTER).read_text(encoding="utf-8"))["base_model_name_or_path"]
            return Served(name, folder, *_state(folder, template), base=str(base))
        if not folder.is_dir() or hub.missing_parts(folder):
            return None
        return Served(name, folder, *_state(folder, template), template=template)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _state(folder: Path, template: str | None) -> tuple[str, int]:
    """(digest, time of the newest file) from names, sizes and times: read often, so no file is opened."""
    files = sorted(path for pattern in _WEIGHTS for path in folder.glob(pattern))
    stats = [(path.name, path.stat()) for path in files]
    marks = [f"{name}:{stat.st_size}:{stat.st_mtime_ns}" for name, stat in stats]
    digest = hashlib.sha256("\n".join([str(folder), str(template), *marks]).encode()).hexdigest()
    return digest, int(max((stat.st_mtime for _, stat in stats), default=0))
