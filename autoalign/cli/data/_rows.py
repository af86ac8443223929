"""What the commands that write rows share: flags, the errors of bad rows, the output's place."""

from __future__ import annotations

import contextlib
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from autoalign.cli.data import _flags
from autoalign.cli.data._progress import progress
from autoalign.cli.flags import Parser
from autoalign.curation import answers
from autoalign.curation.answers import AnswerRow
from autoalign.errors import DataError
from autoalign.formats import RawRow
from autoalign.formats._files import suffix
from autoalign.formats._problems import Problems


def writing_parser(command: str, description: str) -> Parser:
    """A parser with FILE ..., `--output`, `--force` and what becomes of bad rows."""
    parser = _flags.file_parser(command, description, several=True)
    parser.add_argument(
        "--output", "-o", required=True, metavar="PATH", help=".json, .jsonl, .csv or .parquet"
    )
    parser.add_argument("--force", action="store_true", help="replace the output where it exists")
    _flags.add_bad_rows(parser)
    return parser


def output_path(options: Namespace) -> Path:
    """Where the rows go; its folder is made.

    Raises:
        DataError: it exists and is to stay, or its suffix is none of a data file.
    """
    output = Path(options.output)
    suffix(str(output))
    if output.exists() and not options.force:
        raise DataError("is there already; give --force to replace it", file=str(output))
    output.parent.mkdir(parents=True, exist_ok=True)
    return output


@contextlib.contextmanager
def reading(options: Namespace) -> Iterator[tuple[Iterator[AnswerRow], Problems]]:
    """The rows of all files with their answers, and where bad ones go."""
    problems = Problems(options.on_bad_row, options.errors_path)
    with progress(), problems:
        yield counted(options, problems), problems


def counted(options: Namespace, problems: Problems) -> Iterator[AnswerRow]:
    """The good rows; raises after the last one where bad ones are not to be left out."""
    good = bad = 0

    def note(problem: DataError, raw: RawRow) -> None:
        nonlocal bad
        bad += 1
        problems.add(problem, raw)

    for row in answers.read(options.file, options.format, note):
        good += 1
        yield row
    problems.check(good + bad, nothing_left=problems.count == good + bad)


def said_bad(options: Namespace, problems: Problems) -> None:
    """Say how many rows went to the errors file."""
    if problems.count:
        print(f"  {problems.count:,} bad rows were appended to {options.errors_path}")
