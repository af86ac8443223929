"""`autoalign-cli data convert`: the same rows in another format or another kind of file."""

from __future__ import annotations

import time

from autoalign import formats
from autoalign.cli.data import _flags
from autoalign.cli.data._progress import progress

SUMMARY = "write a file in another format (sharegpt, messages, ...) or kind (.jsonl, .parquet, ...)"
DESCRIPTION = (
    "Read files and write their rows in the format --to; the suffix of --output says what kind of file."
)


def run(args: list[str]) -> int:
    """Convert, and say how many rows were written."""
    parser = _flags.file_parser("convert", DESCRIPTION, several=True)
    parser.add_argument("--to", required=True, metavar="NAME", help=f"one of {', '.join(formats.names())}")
    parser.add_argument(
        "--output", "-o", required=True, metavar="PATH", help=".json, .jsonl, .csv or .parquet"
    )
    parser.add_argument("--limit", type=_flags.positive, metavar="N", help="at most N rows of each file")
    parser.add_argument("--force", action="store_true", help="replace the output where it exists")
    _flags.add_bad_rows(parser)
    options = parser.parse_strict(args)
    start = time.perf_counter()
    with progress():
        done = formats.convert(
            options.file,
            options.to,
            options.output,
            format=options.format,
            on_bad_row=options.on_bad_row,
            errors_path=options.errors_path,
            limit=options.limit,
            force=options.force,
        )
    seconds = time.perf_counter() - start
    print(f"{done.path}: {done.rows:,} rows as {options.to} ({seconds:.2f} s)")
    if done.bad_rows:
        print(f"  {done.bad_rows:,} bad rows were appended to {options.errors_path}")
    return 0
