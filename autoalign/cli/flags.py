"""Command-line flags made from a job's config class: same names, same types, same checks."""

from __future__ import annotations

import argparse
import types
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from autoalign.config.base import JobConfig
from autoalign.errors import ConfigError, nearest

ConfigT = TypeVar("ConfigT", bound=JobConfig)


class Parser(argparse.ArgumentParser):
    """argparse, with its complaints raised as ConfigError (exit code 2, one line)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (see {self.prog} --help)")

    def parse_strict(self, args: Sequence[str]) -> argparse.Namespace:
        """Like `parse_args`, naming the nearest flag for an unknown one."""
        parsed, unknown = self.parse_known_args(list(args))
        if unknown:
            word = unknown[0]
            flag = word.split("=")[0]
            if not flag.startswith("--"):
                self.error(f"unexpected argument '{word}'")
            known = [option for option in self._option_string_actions if option.startswith("--")]
            candidates = {option.replace("-", "_"): option for option in known}
            hint = nearest(flag.replace("-", "_"), candidates)
            self.error(f"unknown flag '{flag}'{hint.replace('__', '--', 1)}")
        return parsed


def config_from_args(config_class: type[ConfigT], args: Sequence[str], prog: str) -> ConfigT:
    """Parse `[--config X.yaml] [--key value ...]` into a validated config.

    Each field is spelled `--like_this` or `--like-this`; a bool is `--flag`,
    `--no_flag` or `--flag true|false`; a list takes several values; `none` takes back an
    optional one.

    Raises:
        ConfigError: an unknown flag or key, a missing value, a wrong type.
    """
    parser = config_parser(config_class, prog)
    given = vars(parser.parse_strict([_underscored(word) for word in args]))
    path = given.pop("config", None)
    flags = {key: _or_none(value, config_class.model_fields[key]) for key, value in given.items()}
    return config_class.from_sources(path, flags)


def config_parser(config_class: type[JobConfig], prog: str) -> Parser:
    """A parser with one flag for each field; `--help` shows type, default and meaning."""
    parser = Parser(
        prog=prog,
        usage=f"{prog} [--config X.yaml] [--key value ...]",
        description=config_class.__doc__,
        epilog="A flag overrides the file; --some-key and --some_key are the same; --no_key is --key false.",
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--config", metavar="X.yaml", help="read keys from this file (also --config_path)")
    parser.add_argument("--config_path", dest="config", help=argparse.SUPPRESS)
    for name, field in config_class.model_fields.items():
        _add_flag(parser, name, field)
    return parser


def _or_none(value: Any, field: FieldInfo) -> Any:
    """`none` and `null` take an optional value back, as `null` does in a YAML file."""
    optional = type(None) in get_args(field.annotation)
    return None if optional and value in ("none", "null") else value


def _underscored(word: str) -> str:
    """`--some-key=a-b` as `--some_key=a-b`; what is no flag stays as it is."""
    if not word.startswith("--"):
        return word
    flag, equals, value = word.partition("=")
    return f"--{flag[2:].replace('-', '_')}{equals}{value}"


def _add_flag(parser: Parser, name: str, field: FieldInfo) -> None:
    kind, is_list = _kind(field.annotation)
    options: dict[str, Any] = {"dest": name, "metavar": kind, "help": _help_text(field)}
    if kind == "true|false":
        options.update(nargs="?", const="true")
        parser.add_argument(
            f"--no_{name}", dest=name, action="store_const", const="false", help=argparse.SUPPRESS
        )
    elif is_list:
        options.update(nargs="+")
    parser.add_argument(f"--{name}", **options)


def _help_text(field: FieldInfo) -> str:
    text = (field.description or "").replace("%", "%%")
    if field.default is PydanticUndefined and field.default_factory is None:
        return f"{text} (required)"
    default = field.get_default(call_default_factory=True)
    return f"{text} (default: {'none' if default is None else default})".replace(
        "default: True", "default: true"
    ).replace("default: False", "default: false")


def _kind(annotation: Any) -> tuple[str, bool]:
    """What to print for a value, and whether a flag takes several."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(args[0])
    if origin in (Union, types.UnionType):
        kinds = [_kind(arg) for arg in args if arg is not type(None)]
        unique = list(dict.fromkeys(kind for kind, _ in kinds))
        return "|".join(unique), any(is_list for _, is_list in kinds)
    if origin is Literal:
        return "|".join(str(arg) for arg in args), False
    if origin in (list, tuple):
        return _kind(args[0])[0], True
    if annotation is bool:
        return "true|false", False
    return {int: "N", float: "X", str: "TEXT"}.get(
        annotation, getattr(annotation, "__name__", "VALUE").upper()
    ), False
