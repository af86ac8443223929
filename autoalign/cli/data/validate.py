"""`autoalign-cli data validate`: is every row fit to train on?"""

from __future__ import annotations

import sys
import time
from argparse import Namespace

from autoalign import formats
from autoalign.cli.data import _flags
from autoalign.cli.data._progress import progress
from autoalign.cli.data._tokenizer import Encoder, encoder
from autoalign.errors import DataError, TemplateError

SUMMARY = "check every row, and name the bad ones by file, line and field"
DESCRIPTION = "Check every row of the files; exit code 0 when all are good (or in quarantine), 2 when not."


class LengthCheck:
    """Renders each record as training would; counts those that `--model_max_length` cuts."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder, self.cut = encoder, 0

    def __call__(self, record: formats.Record) -> None:
        encoded = self.encoder.sides(record).values()
        if not all(any(label >= 0 for label in side.labels) for side in encoded):
            raise TemplateError(
                f"nothing to train on is left of it with template {self.encoder.template.name}"
            )
        self.cut += any(side.truncated for side in encoded)


def run(args: list[str]) -> int:
    """Validate each file; prints one line a file, and the first 20 bad rows."""
    parser = _flags.file_parser("validate", DESCRIPTION, several=True)
    _flags.add_kind(parser)
    _flags.add_bad_rows(parser)
    _flags.add_prompts(parser)
    _flags.add_tokenizer(parser)
    options = parser.parse_strict(args)
    renderer = encoder(options.tokenizer, options.template, options.model_max_length)
    return max([_validate(path, options, renderer) for path in options.file])


def _validate(path: str, options: Namespace, renderer: Encoder | None) -> int:
    start = time.perf_counter()
    lengths = LengthCheck(renderer) if renderer else None
    try:
        with progress():
            report = formats.check(
                path,
                kind=options.kind,
                format=options.format,
                purpose="prompts" if options.prompts else "train",
                on_bad_row=options.on_bad_row,
                errors_path=options.errors_path,
                on_record=lengths,
            )
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    cut = (
        f", {lengths.cut:,} cut at {renderer.max_length:,} tokens"
        if lengths and renderer and renderer.max_length
        else ""
    )
    seconds = time.perf_counter() - start
    print(f"{path}: {_summary(report)}{cut} ({seconds:.2f} s)", flush=True)
    return _verdict(report, options)


def _summary(report: formats.Report) -> str:
    form = f"{report.format} ({report.kind})" if report.kind else "format unknown"
    return f"{report.rows:,} rows, {form}, {report.bad_rows:,} bad"


def _verdict(report: formats.Report, options: Namespace) -> int:
    if not report.bad_rows:
        return 0
    for problem in report.problems:
        print(f"  {problem}", file=sys.stderr)
    hidden = report.bad_rows - len(report.problems)
    if hidden:
        print(f"  ... and {hidden:,} more", file=sys.stderr)
    if options.on_bad_row == "quarantine":
        print(f"  {report.bad_rows:,} bad rows were appended to {options.errors_path}")
        return 0 if report.bad_rows < report.rows else 2
    return 2
