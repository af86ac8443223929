"""Plugins are files: `autoalign/<kind>/<name>.py`, found by their file name.

A new one needs no entry in any list. A name's dashes and dots stand for
underscores in the file name, so `qwen2.5` is `qwen2_5.py`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import fields
from types import ModuleType
from typing import Any

from autoalign.errors import ConfigError, UnknownName, nearest


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


def options(module: ModuleType, method: str, settings: Mapping[str, Any]) -> Any:
    """A method's `Options` dataclass; a setting of None is the method's own default.

    Raises:
        ConfigError: a setting that the method lacks.
    """
    known = [field.name for field in fields(module.Options)]
    given = {key: value for key, value in settings.items() if value is not None}
    for key in given:
        if key not in known:
            raise ConfigError(
                f"{key} is no option of method {method}{nearest(key, known)}; "
                f"there are: {', '.join(known) or 'none'}"
            )
    return module.Options(**given)
