"""`autoalign-cli data pairs`: preference pairs out of scored samples."""

from __future__ import annotations

import time

from autoalign import formats, plugins
from autoalign.cli.data import _flags, _rows
from autoalign.curation.candidates import Rules
from autoalign.curation.pairs import STRATEGIES, PairMaker, PairReport
from autoalign.errors import ConfigError
from autoalign.formats._types import get_format

SUMMARY = "make preference pairs of scored samples (what score wrote), for dpo and rm"
DESCRIPTION = """Group scored answers by prompt, and pair better ones with worse ones. best_worst: the best
against the worst; threshold: scores from --threshold on against those below; margin: all that differ by
--min-margin, the widest apart first; all: every two of different score; random: drawn by --seed."""


def run(args: list[str]) -> int:
    """Write the pairs, and say how many prompts have none and why."""
    parser = _rows.writing_parser("pairs", DESCRIPTION)
    parser.add_argument(
        "--strategy", default="best_worst", choices=plugins.names(STRATEGIES), help="default: best_worst"
    )
    parser.add_argument("--score", metavar="NAME", help="score that decides (default: the only one there is)")
    _flags.add(parser, "threshold", type=float, default=0.5, metavar="X", help="default: 0.5")
    _flags.add(
        parser, "min_margin", type=float, default=0.0, metavar="X", help="least difference of the scores"
    )
    _flags.add(parser, "max_pairs", type=_flags.positive, metavar="N", help="most pairs of one prompt")
    parser.add_argument("--seed", type=int, default=42, metavar="N", help="of random (default: 42)")
    parser.add_argument(
        "--to", default="autoalign", metavar="NAME", help="preference format (default: autoalign)"
    )
    _flags.add(parser, "with_margin", action="store_true", help="write the margin, which rm trains with")
    options = parser.parse_strict(args)
    target = get_format(options.to)
    if target.KIND != "preference":
        raise ConfigError(f"--to {options.to}: holds no pairs; preference formats are autoalign, trl, ...")
    output, report, start = _rows.output_path(options), PairReport(), time.perf_counter()
    rules = Rules(options.threshold, options.min_margin, options.max_pairs, str(options.seed))
    maker = PairMaker(options.strategy, rules, options.score, options.with_margin)
    with _rows.reading(options) as (rows, problems):
        pairs = maker.pairs(rows, output.parent, report, problems.add)
        formats.write_rows(output, map(target.dump, pairs))
    print(f"{output}: as {options.to} ({time.perf_counter() - start:.2f} s)")
    print("\n".join(report.lines()))
    _rows.said_bad(options, problems)
    print(f"next: autoalign-cli dpo --model-name-or-path MODEL --data-path {output} --output-dir outputs/dpo")
    return 0
