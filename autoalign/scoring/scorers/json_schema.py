"""Is the answer JSON that fits a schema? 1 or 0 (https://json-schema.org).

The JSON is the whole answer, or the content of its last fenced code block.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoalign.curation.answers import Answer
from autoalign.errors import ConfigError
from autoalign.scoring.fences import last_block
from autoalign.scoring.scorer import Checked, Job, Score


@dataclass(frozen=True)
class Options:
    """What may be set.

    Args:
        schema_file: a JSON Schema; None asks for any JSON.
    """

    schema_file: str | None = None


def create(options: Options, job: Job) -> Checked:
    """The first violation goes into the details.

    Raises:
        ConfigError: the file is no JSON Schema.
    """
    from jsonschema.exceptions import best_match
    from jsonschema.validators import validator_for
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    schema = _schema(options.schema_file)
    # A registry of its own: the default one would fetch what a $ref names from the network.
    validator = validator_for(schema)(schema, registry=Registry())

    def check(answer: Answer) -> Score:
        try:
            value = json_in(answer.text)
        except ValueError as error:
            return Score(0.0, {"error": f"no JSON: {error}"})
        try:
            wrong = best_match(validator.iter_errors(value))
        except Unresolvable as error:
            raise ConfigError(
                f"'schema_file': {options.schema_file}: nothing is at $ref {error.ref}"
            ) from None
        return Score(1.0) if wrong is None else Score(0.0, {"error": f"{wrong.json_path}: {wrong.message}"})

    return Checked(check)


def json_in(text: str) -> Any:
    """The value of an answer.

    Raises:
        ValueError: it is no JSON.
    """
    block = last_block(text, ("json", "jsonc", "json5"))
    try:
        return json.loads(text if block is None else block)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _schema(path: str | None) -> Any:
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for

    if path is None:
        return True
    try:
        schema = json.loads(Path(path).read_text(encoding="utf-8"))
        validator_for(schema).check_schema(schema)
    except OSError as error:
        raise ConfigError(f"'schema_file': {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise ConfigError(f"'schema_file': {path} is no JSON: {error}") from None
    except SchemaError as error:
        raise ConfigError(f"'schema_file': {path}: {error.json_path}: {error.message}") from None
    return schema
