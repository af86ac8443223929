"""Plugins are files: `autoalign/<kind>/<name>.py`, found by their file name.

A new one needs no entry in any list. A name's dashes and dots stand for
underscores in the file name, so `qwen2.5` is `qwen2_5.py`.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from autoalign.errors import UnknownName, nearest


def names(package: str) -> list[str]:
    """Names of the plugin modules in `package`, sorted; private ones left out."""
    path = importlib.import_module(package).__path__
    return sorted(m.name for m in pkgutil.iter_modules(path) if not m.name.startswith("_"))


def load(package: str, name: str) -> ModuleType:
    """Import the plugin `name` of `package`.

    Raises:
        UnknownName: no such file; the message lists the names there are.
    """
    module = name.replace("-", "_").replace(".", "_")
    known = names(package)
    if module not in known:
        kind = package.rsplit(".", 1)[-1]
        raise UnknownName(
            f"no {kind} plugin is named '{name}'{nearest(module, known)}; there are: {', '.join(known)}"
        )
    return importlib.import_module(f"{package}.{module}")
