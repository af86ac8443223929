"""A benchmark of one's own as a Python file: its code runs here, and its faults are told, not thrown."""

from __future__ import annotations

import importlib.util
import json
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType

from autoalign.errors import AutoAlignError, ConfigError, JobFailed
from autoalign.evaluation.ask import Ask, Scored
from autoalign.evaluation.results import Question, Result

_OPTIONS: Mapping[str, tuple[type, ...]] = {
    "FILE": (str, Path, type(None)),
    "MAX_NEW_TOKENS": (int,),
    "NEEDS": (tuple, list),
    "GENERATES": (bool,),
}


def load(path: Path) -> ModuleType:
    """The user's own code, which the config names.

    Raises:
        ConfigError: no such file, it can't be run, it lacks `read` or `score`, or one of its options is of
            another type.
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
    for name, kinds in _OPTIONS.items():
        if hasattr(module, name) and not isinstance(given := getattr(module, name), kinds):
            raise ConfigError(f"'benchmarks': {path}: {name} is {given!r}; {kinds[0].__name__} is expected")
    return module


def ask_of(given: object) -> Ask:
    """What `read` gave, with its id as text and its turns as a tuple.

    Raises:
        TypeError: it is no question.
    """
    if not isinstance(given, Ask):
        raise TypeError(f"read() gives {_kind(given)}; Ask(id, turns, row) is expected")
    turns = given.turns
    if not isinstance(turns, tuple | list) or not turns or not all(isinstance(each, str) for each in turns):
        raise TypeError(f"question {given.id}: its turns are {turns!r}; a tuple of texts is expected")
    if not isinstance(given.row, Mapping):
        raise TypeError(f"question {given.id}: its row is {_kind(given.row)}; a dict is expected")
    return replace(given, id=str(given.id), turns=tuple(turns))


def scored_of(given: object) -> Scored:
    """What `score` gave, as it can be written and shown.

    Raises:
        TypeError: it is something else, or a figure is no number.
        ValueError: it has no figure, or one that is not finite.
    """
    if not isinstance(given, Scored):
        raise TypeError(f"score() gives {_kind(given)}; Scored(results, questions) is expected")
    scored = Scored(tuple(given.results), tuple(given.questions))
    for kind, all_of_them in ((Result, scored.results), (Question, scored.questions)):
        for each in all_of_them:
            if not isinstance(each, kind):
                raise TypeError(f"score() gives {_kind(each)} where {kind.__name__} is expected")
    if not scored.results:
        raise ValueError("score() gives no Result")
    for result in scored.results:
        result.cell()
        json.dumps(asdict(result), allow_nan=False)
    return scored


def _kind(given: object) -> str:
    return "nothing" if given is None else type(given).__name__


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
