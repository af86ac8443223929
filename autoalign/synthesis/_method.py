"""A method with its options."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from autoalign import plugins
from autoalign.synthesis._job import Job, Row
from autoalign.synthesis._prompts import PromptSet

PACKAGE = "autoalign.synthesis"


@dataclass(frozen=True)
class Method:
    """What `build` makes: the file's name, its `Options`, and the file itself."""

    name: str
    options: Any
    module: ModuleType

    @property
    def seeds(self) -> str | None:
        """What a seed is; None where the method needs none."""
        kind: str | None = self.module.SEEDS
        return kind

    @property
    def endless(self) -> bool:
        """Whether it goes on until it is stopped."""
        return bool(self.module.ENDLESS)

    def prompts(self, folder: Path | None = None) -> PromptSet:
        """Its prompts, with those of a user's `folder` in place of ours."""
        return PromptSet.load(self.name, folder, getattr(self.module, "OWN_PROMPTS", None))

    def run(self, job: Job) -> Iterator[Row]:
        """Rows as they are made."""
        rows: Iterator[Row] = self.module.run(job, self.options)
        return rows


def names() -> list[str]:
    """The methods there are."""
    return plugins.names(PACKAGE)


def build(name: str, **settings: Any) -> Method:
    """A method by its name; a setting of None is the method's own default.

    Raises:
        UnknownName: no method has that name.
        ConfigError: a setting that the method lacks, or a value that it may not take.
    """
    module = plugins.load(PACKAGE, name)
    return Method(module.__name__.rsplit(".", 1)[-1], plugins.options(module, name, settings), module)
