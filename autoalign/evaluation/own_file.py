"""A benchmark of one's own as a YAML file beside its questions:

name: quiz
file: quiz.jsonl              # or the rows themselves, under `questions`
prompt: "{{ question }}"      # Jinja, over the row's keys
reference: answer             # the key of the right answer
scorer: exact                 # or numeric, math, code, regex, choice, json_schema, language, length, refusal
options: {}                   # of the scorer, as in `autoalign-cli score`
max_new_tokens: 64
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, UndefinedError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import Field, field_validator

from autoalign.config.base import JobConfig
from autoalign.errors import ConfigError, DataError, UnknownName
from autoalign.evaluation.ask import Answered, Ask, Scored
from autoalign.evaluation.results import result_of
from autoalign.evaluation.rows import Row, rows_of
from autoalign.evaluation.tools import Tools, scorer_of


class OwnBenchmark(JobConfig):
    """The keys of the file."""

    name: str | None = Field(None, description="in tables; none: the file's own")
    file: str | None = Field(None, description="questions: JSON, JSONL, CSV, Parquet, beside the YAML file")
    questions: list[dict[str, Any]] | None = Field(None, description="the questions themselves")
    prompt: str = Field("{{ question }}", description="Jinja template of what is asked")
    system: str | None = Field(None, description="system message")
    reference: str = Field("answer", description="key of the right answer, or of the tests")
    id: str = Field("id", description="key of the question's id; else its place")
    scorer: str = Field("exact", description="a file's name in autoalign/scoring/scorers")
    options: dict[str, Any] = Field(default_factory=dict, description="of the scorer")
    metric: str = Field("accuracy", description="the figure's name in tables")
    max_new_tokens: int = Field(512, ge=1, description="longest answer in tokens")

    @field_validator("scorer")
    @classmethod
    def _no_model(cls, value: str) -> str:
        if value in ("judge", "reward_model"):
            raise ValueError("a scorer without a model is expected; judges are for the preference benchmarks")
        return value


@dataclass(frozen=True)
class Own:
    """A benchmark that such a file describes."""

    path: Path
    keys: OwnBenchmark
    template: Template

    @property
    def name(self) -> str:
        """In tables and file names."""
        return self.keys.name or self.path.stem

    @property
    def max_new_tokens(self) -> int:
        """Of one answer."""
        return self.keys.max_new_tokens

    @property
    def data(self) -> Path:
        """Where its questions are."""
        return self.path if self.keys.file is None else self.path.parent / self.keys.file

    @property
    def options(self) -> dict[str, Any]:
        """Of the scorer."""
        given = {"tests_key": "reference"} if self.keys.scorer == "code" else {}
        return {**given, **self.keys.options}

    def read(self, path: Path) -> Iterator[Ask]:
        """The questions, in the file's order.

        Raises:
            DataError: a row has no answer, or the prompt can't be filled in with it.
        """
        for row in self._rows(path):
            try:
                prompt = self.template.render(dict(row.fields))
            except UndefinedError as error:
                raise DataError(f"the prompt asks for a key: {error.message}", str(path), row.line) from None
            except Exception as error:  # the user's own template may raise anything
                told = f"the prompt can't be filled in: {type(error).__name__}: {error}"
                raise DataError(told, str(path), row.line) from error
            reference = row.fields.get(self.keys.reference)
            if reference is None and self.keys.scorer not in ("regex", "length", "refusal", "json_schema"):
                raise DataError(f"'{self.keys.reference}' is missing", str(path), row.line)
            asked = {**row.fields, "reference": reference}
            yield Ask(row.id(self.keys.id), (prompt,), asked, self.keys.system)

    def score(self, answered: Sequence[Answered], tools: Tools) -> Scored:
        """By the scorer that the file names."""
        questions = tools.scored_by(self.keys.scorer, answered, self.options)
        return Scored((result_of(self.name, self.keys.metric, questions),), tuple(questions))

    def _rows(self, path: Path) -> Iterator[Row]:
        if self.keys.questions is None:
            return rows_of(path)
        return (Row(path, place, row) for place, row in enumerate(self.keys.questions, 1))


def load(path: Path) -> Own:
    """Read the file.

    Raises:
        ConfigError: a key is wrong, the prompt is no Jinja, or there are no questions.
        InputError: no scorer of that name, or its options are wrong.
    """
    keys = OwnBenchmark.from_sources(path, {})
    if (keys.file is None) == (keys.questions is None):
        raise ConfigError(f"{path}: 'file' or 'questions' is expected, one of the two")
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    environment.filters["json"] = partial(json.dumps, ensure_ascii=False)
    try:
        template = environment.from_string(keys.prompt)
    except TemplateSyntaxError as error:
        raise ConfigError(f"{path}: 'prompt': {error.message}") from None
    own = Own(path, keys, template)
    try:
        scorer_of(keys.scorer, own.options, own.name).close()
    except (ConfigError, UnknownName) as error:
        raise ConfigError(f"{path}: 'scorer': {error}") from None
    return own
