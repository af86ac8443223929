"""`autoalign-cli data COMMAND`: look at and prepare data files.

A command is a module here: `SUMMARY` for the list, `run(args) -> int` for the work.
"""

from __future__ import annotations

from typing import cast

from autoalign import plugins
from autoalign.errors import ConfigError, nearest


def data(args: list[str]) -> int:
    """Run one data command; returns the exit code.

    Raises:
        ConfigError: no such command.
    """
    known = plugins.names(__name__)
    if not args or args[0] in ("-h", "--help", "help"):
        print(_usage(known))
        return 0
    name, rest = args[0], args[1:]
    if name not in known:
        raise ConfigError(
            f"unknown data command '{name}'{nearest(name, known)}; there are: {', '.join(known)} "
            "(see autoalign-cli data --help)"
        )
    return cast(int, plugins.load(__name__, name).run(rest))


def _usage(known: list[str]) -> str:
    width = max(map(len, known))
    rows = [f"  {name:<{width}}  {plugins.load(__name__, name).SUMMARY}" for name in known]
    return "\n".join(
        [
            "usage: autoalign-cli data COMMAND FILE ... [--flag value ...]",
            "",
            *rows,
            "",
            "FILE is .json, .jsonl, .csv (also .gz) or .parquet, a local path or a URL (s3://, hf://, https://).",
            "autoalign-cli data COMMAND --help shows a command's flags.",
        ]
    )
