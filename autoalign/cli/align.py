"""`autoalign-cli align`, `align status` and `align lineage`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autoalign.cli.flags import Parser, config_from_args
from autoalign.config.align import AlignConfig

_PROG = "autoalign-cli align"


def align(args: Sequence[str]) -> int:
    """Align a model over rounds; with --plan show what would run; `status` and `lineage` look at a job."""
    if args and args[0] in ("status", "lineage"):
        return (_status if args[0] == "status" else _lineage)(args[1:])
    planned = "--plan" in args
    config = config_from_args(AlignConfig, [word for word in args if word != "--plan"], _PROG)
    if planned:
        from autoalign.alignment import planning, prompts
        from autoalign.alignment.run import prepare

        print("\n".join(planning.lines(config, prompts.read(config), prepare(config))))
        return 0

    from autoalign.alignment.run import run

    print(run(config).summary())
    return 0


def _status(args: Sequence[str]) -> int:
    parser = Parser(
        prog=f"{_PROG} status", description="The stages of a job, with times, counts and figures."
    )
    parser.add_argument("folder", metavar="OUTPUT_DIR", help="the job's output_dir")
    folder = Path(parser.parse_strict(args).folder).expanduser().resolve()

    from autoalign.alignment import ledger, stages, status

    print("\n".join(status.lines(ledger.read(folder), stages.StageStore(folder / stages.FOLDER))))
    return 0


def _lineage(args: Sequence[str]) -> int:
    parser = Parser(prog=f"{_PROG} lineage", description="Where a model or a training row came from.")
    parser.add_argument("folder", metavar="OUTPUT_DIR", help="the job's output_dir")
    parser.add_argument("--row", metavar="ID", help="a training row's id")
    parser.add_argument("--model", metavar="FOLDER", help="one of its models (default: the promoted one)")
    given = parser.parse_strict(args)
    folder = Path(given.folder).expanduser().resolve()

    from autoalign.alignment import ledger, lineage, stages

    job, store = ledger.read(folder), stages.StageStore(folder / stages.FOLDER)
    if given.row is not None:
        found = lineage.of_row(job, store, given.row)
    else:
        found = lineage.of_model(job, store, Path(given.model) if given.model else None)
    print("\n".join(found))
    return 0
