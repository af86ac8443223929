"""An algorithm with its options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from autoalign import plugins
from autoalign.algorithms._job import Job
from autoalign.algorithms._made import Made
from autoalign.synthesis import PromptSet

PACKAGE = "autoalign.algorithms"
FOLDER = Path(__file__).resolve().parents[1] / "prompts" / "algorithms"
# Their files may change with a release. One that is not named here works as well: what its file says is then
# part of what its data are known by.
_OURS = frozenset(
    (
        *("cai", "context_distillation", "debate", "grpo", "iterative_dpo", "meta_rewarding", "online_dpo"),
        *("pcon", "rest", "rft", "rlcd", "rlcd_sys", "self_improve", "self_rewarding", "spin", "sppo", "sso"),
        *("star", "wpo"),
    )
)


@dataclass(frozen=True)
class Algorithm:
    """What `build` makes: the file's name, its `Options`, and the file itself."""

    name: str
    options: Any
    module: ModuleType

    @property
    def makes(self) -> str:
        """ "examples", "pairs" or "prompts"."""
        kind = getattr(self.module, "makes", None)
        return str(kind(self.options) if kind else self.module.MAKES)

    @property
    def trains(self) -> str:
        """The role that the trained model takes: "policy", or "generator"."""
        role = getattr(self.module, "trains", None)
        return str(role(self.options)) if role else "policy"

    @property
    def judges(self) -> tuple[str, ...]:
        """The roles that give verdicts in it."""
        named = getattr(self.module, "judges", None)
        judge = getattr(self.options, "judge", None)
        return tuple(named(self.options)) if named else (judge,) if judge else ()

    @property
    def starts_from(self) -> str:
        """What a round trains: "policy" (the last promoted model) or "base" (the first one)."""
        return str(getattr(self.module, "STARTS_FROM", "policy"))

    @property
    def training(self) -> Mapping[str, Any]:
        """Settings of the training job that belong to the method."""
        own = getattr(self.module, "training", None)
        settings: Mapping[str, Any] = own(self.options) if own else getattr(self.module, "TRAINING", {})
        return settings

    @property
    def own_file(self) -> Path | None:
        """The file of an algorithm that is the user's; None for one of ours."""
        if self.name in _OURS or self.module.__file__ is None:
            return None
        return Path(self.module.__file__)

    def prompts(self, folder: Path | None = None) -> PromptSet:
        """Its prompts, with those of a user's `folder` in place of ours."""
        if not (FOLDER / self.name).is_dir() and folder is None:
            return PromptSet({})
        return PromptSet.load(self.name, folder, home=FOLDER)

    def run(self, job: Job) -> Iterator[Made]:
        """What it makes and what it drops, as it goes."""
        made: Iterator[Made] = self.module.run(job, self.options)
        return made


def names() -> list[str]:
    """The algorithms there are."""
    return plugins.names(PACKAGE)


def build(name: str, **settings: Any) -> Algorithm:
    """An algorithm by its name; a setting of None is the paper's default.

    Raises:
        UnknownName: no algorithm has that name.
        ConfigError: a setting that it lacks, or a value that it may not take.
    """
    module = plugins.load(PACKAGE, name)
    return Algorithm(module.__name__.rsplit(".", 1)[-1], plugins.options(module, name, settings), module)
