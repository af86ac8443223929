"""A benchmark of one's own as a Python file: its code runs here, and its faults are told, not thrown."""

from __future__ import annotations

import importlib.util
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from autoalign.errors import AutoAlignError, ConfigError, JobFailed


def load(path: Path) -> ModuleType:
    """The user's own code, which the config names.

    Raises:
        ConfigError: no such file, it can't be run, or it lacks `read` or `score`.
    """
    spec = importlib.util.spec_from_file_location(f"autoalign_benchmark_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ConfigError(f"'benchmarks': {path}: no such file")
    module = importlib.util.module_from_spec(spec)
    with told(path, ConfigError):
        spec.loader.exec_module(module)
    for wanted in ("read", "score"):
        if not callable(getattr(module, wanted, None)):
            raise ConfigError(
                f"'benchmarks': {path} defines no {wanted}(); docs/evaluation.md shows a whole one"
            )
    return module


@contextmanager
def told(path: Path, kind: type[AutoAlignError] = JobFailed) -> Iterator[None]:
    """What the file's code raises becomes one message, with its line.

    Raises:
        AutoAlignError: of that kind.
    """
    try:
        yield
    except AutoAlignError:
        raise
    except Exception as error:  # the user's own code may raise anything
        lines = [
            frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)
        ]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
        place = f"{path}:{line}" if line else str(path)
        raise kind(f"{place}: {type(error).__name__}: {error}") from error
