"""Judge prompts: Jinja text files in `autoalign/prompts/judge`, or of one's own."""

from __future__ import annotations

from pathlib import Path

from jinja2 import StrictUndefined, TemplateSyntaxError, UndefinedError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from autoalign.errors import ConfigError

FOLDER = Path(__file__).resolve().parents[1] / "prompts" / "judge"


class JudgePrompt:
    """A prompt to fill in.

    Args:
        name: a file's name in `FOLDER` without `.txt`, or a path.
        key: the config's, for messages.

    Raises:
        ConfigError: no such file, or no Jinja.
    """

    def __init__(self, name: str, key: str = "judge_prompt") -> None:
        own = FOLDER / f"{name}.txt"
        self._path = own if own.is_file() else Path(name)
        try:
            text = self._path.read_text(encoding="utf-8")
        except OSError as error:
            known = ", ".join(sorted(path.stem for path in FOLDER.glob("*.txt")))
            raise ConfigError(
                f"'{key}': {name}: {error.strerror or error}; give a file, or one of {known}"
            ) from None
        environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined)
        try:
            self._template = environment.from_string(text)
        except TemplateSyntaxError as error:
            raise ConfigError(f"{self._path}:{error.lineno}: {error.message}") from None

    def fill(self, **values: str | None) -> str:
        """The text that the judge gets.

        Raises:
            ConfigError: it asks for a value that is not there.
        """
        try:
            return self._template.render(**values)
        except UndefinedError as error:
            raise ConfigError(f"{self._path}: {error.message}; there are: {', '.join(values)}") from None
