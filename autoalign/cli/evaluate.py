"""`autoalign-cli eval`, and `autoalign-cli eval compare`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from autoalign.cli.flags import config_from_args
from autoalign.config.evaluate import CompareConfig, EvalConfig

EXAMPLE = Path("configs/eval_demo.yaml")


def evaluate(args: Sequence[str]) -> int:
    """Score a model on benchmarks; exit code 1 when one of them failed.

    With nothing told but what answers (`--backend`), the example config of the repository is run.
    """
    if args and args[0] == "compare":
        return compare(args[1:])
    if EXAMPLE.is_file() and _names_nothing(args):
        print(f"eval: no model given, so {EXAMPLE} is run", file=sys.stderr)
        args = ["--config", str(EXAMPLE), *args]
    config = config_from_args(EvalConfig, args, "autoalign-cli eval")

    from autoalign.evaluation.run import run

    report = run(config)
    print(report.summary())
    return 1 if report.failed else 0


def _names_nothing(args: Sequence[str]) -> bool:
    """Whether there is no flag, or `--backend` alone."""
    flags = [word.partition("=")[0] for word in args if word.startswith("-")]
    return flags in ([], ["--backend"])


def compare(args: Sequence[str]) -> int:
    """Put models side by side; names may stand without a flag."""
    count = next((place for place, word in enumerate(args) if word.startswith("-")), len(args))
    models = ["--models", *args[:count]] if count else []
    config = config_from_args(CompareConfig, [*models, *args[count:]], "autoalign-cli eval compare")

    from autoalign.evaluation.compare import run

    print(run(config).summary())
    return 0
