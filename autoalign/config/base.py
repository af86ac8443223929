"""What every job config shares: strictness, YAML files with line numbers, nearest-key hints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from autoalign.errors import ConfigError, nearest


class JobConfig(BaseModel):
    """Base of every job's config: unknown keys and wrong types are refused by name."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    @field_validator("*", mode="before")
    @classmethod
    def _no_bool_for_number(cls, value: Any, info: Any) -> Any:
        """pydantic reads `true` as 1; a number that was written as a bool is a mistake."""
        if isinstance(value, bool) and cls.model_fields[info.field_name].annotation in (int, float):
            raise ValueError("a number is expected, not true/false")
        return value

    @classmethod
    def build(cls, values: Mapping[str, Any], where: Mapping[str, str] | None = None) -> Self:
        """Validate `values`.

        Args:
            values: key to value.
            where: key to the place it was read from (`X.yaml:3`, `--beta`), for messages.

        Raises:
            ConfigError: every problem, one a line, each with its key and place.
        """
        where = where or {}
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            lines = [cls._explain(detail, where) for detail in error.errors()]
            raise ConfigError("\n".join(lines)) from None

    @classmethod
    def _explain(cls, detail: Any, where: Mapping[str, str]) -> str:
        key = ".".join(str(part) for part in detail["loc"]) or "config"
        top = str(detail["loc"][0]) if detail["loc"] else ""
        place = f"{where[top]}: " if top in where else ""
        if detail["type"] == "extra_forbidden":
            return f"{place}unknown key '{key}'{nearest(key, cls.model_fields)}"
        if detail["type"] == "missing":
            return f"{place}'{key}' is missing: give --{key} or set it in the config file"
        reason = str(detail["msg"]).removeprefix("Value error, ")
        if not detail["loc"]:
            return reason
        return f"{place}'{key}': {reason} (got {detail['input']!r})"

    @classmethod
    def from_sources(cls, path: str | Path | None, flags: Mapping[str, Any]) -> Self:
        """A YAML file overridden by flags."""
        values, where = read_yaml(path) if path is not None else ({}, {})
        values.update(flags)
        where.update({key: f"--{key}" for key in flags})
        return cls.build(values, where)


def read_yaml(path: str | Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Top-level keys of a YAML mapping, and `FILE:LINE` for each.

    Raises:
        ConfigError: no such file, not YAML, not a mapping, or a key given twice.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text; save the file as UTF-8") from None
    except yaml.YAMLError as error:
        raise ConfigError(_explain_yaml(path, error)) from None
    if values is None:
        return {}, {}
    if not isinstance(node, yaml.MappingNode) or not isinstance(values, dict):
        raise ConfigError(f"{path}: a mapping of keys to values is expected")
    where: dict[str, str] = {}
    for key_node, value_node in node.value:
        key = str(key_node.value)
        place = f"{path}:{key_node.start_mark.line + 1}"
        if key in where:
            raise ConfigError(f"{place}: key '{key}' is given twice (first at {where[key]})")
        where[key] = place
        if isinstance(values.get(key), int) and ":" in str(value_node.value):
            values[key] = value_node.value  # YAML 1.1 reads 1:2 as 62, in base 60
    return {str(key): value for key, value in values.items()}, where


def _explain_yaml(path: Path, error: yaml.YAMLError) -> str:
    """`FILE:LINE: what is wrong`, on one line."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return f"{path}: not valid YAML: {' '.join(str(error).split())}"
    problem = error.problem or "it can't be read"
    hint = "; indent with spaces, not tabs" if "\\t" in problem else ""
    return f"{path}:{error.problem_mark.line + 1}: not valid YAML: {problem}{hint}"
