"""What a scorer is, and how the scorers of a job are made.

A scorer is a file in `autoalign/scoring/scorers/` with a dataclass `Options` and
`create(options, job) -> Scorer`; `--scorer NAME` finds it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol

from autoalign import plugins
from autoalign.config.score import ScoreConfig
from autoalign.curation.answers import REFERENCE_KEYS, Answer, find
from autoalign.errors import AutoAlignError, ConfigError, nearest

PACKAGE = "autoalign.scoring.scorers"


@dataclass(frozen=True)
class Score:
    """A number, and how it came about (JSON values)."""

    value: float
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Unscorable:
    """An answer that has no score, and why."""

    reason: str


Outcome = Score | Unscorable


class CannotScore(AutoAlignError, ValueError):
    """Raised by a check: this answer has no score; the others go on."""


class Scorer(Protocol):
    """Scores answers."""

    def score(self, answers: Sequence[Answer]) -> list[Outcome]:
        """One outcome for each answer, in order."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


class Job(NamedTuple):
    """What a scorer may know of its job."""

    config: ScoreConfig
    output: Path


@dataclass(frozen=True)
class Checked:
    """A scorer that looks at one answer at a time."""

    check: Callable[[Answer], Score]

    def score(self, answers: Sequence[Answer]) -> list[Outcome]:
        """One outcome for each answer, in order."""
        return [self._outcome(answer) for answer in answers]

    def _outcome(self, answer: Answer) -> Outcome:
        try:
            return self.check(answer)
        except CannotScore as error:
            return Unscorable(str(error))

    def close(self) -> None:
        """Nothing is held."""


def build(job: Job) -> dict[str, Scorer]:
    """The job's scorers by name.

    Raises:
        UnknownName: no such scorer.
        ConfigError: an option that none of them has, or with a wrong value; a name twice.
    """
    names = job.config.scorer
    modules = {name: plugins.load(PACKAGE, name) for name in names}
    if len(modules) < len(names):
        raise ConfigError(f"'scorer': {', '.join(names)}: name each one once")
    given = job.config.scorer_options
    _refuse_unknown(given, modules)
    options = {name: _options(module, given) for name, module in modules.items()}
    return {name: module.create(options[name], job) for name, module in modules.items()}


def reference(answer: Answer, key: str | None) -> Any:
    """What the answer is held against: the row's value at `key`, or at the first of `REFERENCE_KEYS`.

    Raises:
        CannotScore: there is none.
    """
    for name in (key,) if key else REFERENCE_KEYS:
        value = find(answer.row, name)
        if value is not None and value != "":
            return value
    wanted = f"'{key}'" if key else ", ".join(f"'{name}'" for name in REFERENCE_KEYS)
    raise CannotScore(f"no reference answer in the row (looked for {wanted}); --reference_key names its key")


def _option_names(module: ModuleType) -> list[str]:
    return [each.name for each in fields(module.Options)]


def _options(module: ModuleType, given: Mapping[str, Any]) -> Any:
    known = _option_names(module)
    return module.Options(**{key: value for key, value in given.items() if key in known})


def _refuse_unknown(given: Mapping[str, Any], modules: Mapping[str, ModuleType]) -> None:
    known = sorted({option for module in modules.values() for option in _option_names(module)})
    for key in given:
        if key not in known:
            raise ConfigError(
                f"'{key}' is no option of the scorers {', '.join(modules)}{nearest(key, known)}; "
                f"there are: {', '.join(known) or 'none'}"
            )
