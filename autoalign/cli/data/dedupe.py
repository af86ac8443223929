"""`autoalign-cli data dedupe`: leave out rows that were there before."""

from __future__ import annotations

from collections.abc import Iterator

from autoalign import formats
from autoalign.cli.data import _flags, _rows
from autoalign.curation.answers import AnswerRow
from autoalign.curation.duplicates import Duplicates, Settings

SUMMARY = "leave out rows that repeat an earlier one, exactly or nearly (MinHash)"
DESCRIPTION = "Write the rows that repeat no earlier one, as they are; what it remembers is on disk."


def run(args: list[str]) -> int:
    """Write the rows that are left, and say how many were not."""
    parser = _rows.writing_parser("dedupe", DESCRIPTION)
    parser.add_argument("--method", choices=("exact", "minhash"), default="exact", help="default: exact")
    parser.add_argument(
        "--on", choices=("prompt", "answer", "both"), default="both", help="what is compared (default: both)"
    )
    parser.add_argument(
        "--threshold", type=float, default=0.8, metavar="X", help="minhash: least similarity (default: 0.8)"
    )
    _flags.add(parser, "num_perm", type=_flags.positive, default=128, metavar="N", help="minhash: hashes")
    options = parser.parse_strict(args)
    output = _rows.output_path(options)
    settings = Settings(options.method, options.on, options.threshold, options.num_perm)
    repeated = 0

    def kept(rows: Iterator[AnswerRow], known: Duplicates) -> Iterator[dict[str, object]]:
        nonlocal repeated
        for row in rows:
            if known.repeats(row) is None:
                yield dict(row.fields)
            else:
                repeated += 1

    with Duplicates(settings, output.parent) as known, _rows.reading(options) as (rows, problems):
        count = formats.write_rows(output, kept(rows, known))
    print(f"{output}: {count:,} of {count + repeated:,} rows; {repeated:,} repeat an earlier one")
    _rows.said_bad(options, problems)
    return 0
