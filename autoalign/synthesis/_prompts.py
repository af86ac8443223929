"""A method's prompts: Jinja text files that users may replace one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from autoalign.errors import ConfigError, UnknownName, nearest

FOLDER = Path(__file__).resolve().parents[1] / "prompts" / "synthesis"


@dataclass(frozen=True)
class PromptSet:
    """Prompts by the name of their file, without `.txt`."""

    sources: Mapping[str, str]

    @classmethod
    def load(
        cls, method: str, folder: Path | None = None, more: str | None = None, *, home: Path = FOLDER
    ) -> PromptSet:
        """The prompts of `method`; those that `folder` holds take the place of ours.

        Args:
            more: `folder` may also hold new ones whose names begin with this.
            home: the folder of ours, with one for each method.

        Raises:
            ConfigError: `folder` is none, or a file in it is not UTF-8 or not a Jinja text.
            UnknownName: a file in it has the name of no prompt of this method.
        """
        own = _read(home / method)
        given = {} if folder is None else _read(folder)
        for name in given:
            if name not in own and not (more and name.startswith(more)):
                raise UnknownName(
                    f"{folder}/{name}.txt: {method} has no such prompt{nearest(name, own)}; "
                    f"there are: {', '.join(sorted(own))}"
                )
        prompts = cls({**own, **given})
        prompts.check()
        return prompts

    def check(self) -> None:
        """Raises ConfigError for a text that is no Jinja."""
        for name in self.sources:
            self._compiled(name)

    def render(self, name: str, **values: Any) -> str:
        """The prompt with its variables filled in.

        Raises:
            ConfigError: it names a variable that is not there.
            UnknownName: there is no such prompt.
        """
        if name not in self.sources:
            raise UnknownName(f"no prompt is named '{name}'; there are: {', '.join(sorted(self.sources))}")
        try:
            return self._compiled(name).render(values).strip()
        except TemplateError as error:
            raise ConfigError(f"prompt {name}.txt: {error}; it has: {', '.join(values)}") from None

    def _compiled(self, name: str) -> Template:
        if name not in self._templates:
            try:
                self._templates[name] = self._environment.from_string(self.sources[name])
            except TemplateError as error:
                raise ConfigError(f"prompt {name}.txt: {error}") from None
        return self._templates[name]

    @cached_property
    def _templates(self) -> dict[str, Template]:
        return {}

    @cached_property
    def _environment(self) -> SandboxedEnvironment:
        return SandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def _read(folder: Path) -> dict[str, str]:
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder of prompts")
    try:
        return {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.txt"))}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{folder}: its prompts can't be read: {error}") from None
