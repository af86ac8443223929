"""`autoalign-cli eval`, and `autoalign-cli eval compare`."""

from __future__ import annotations

from collections.abc import Sequence

from autoalign.cli.flags import config_from_args
from autoalign.config.evaluate import CompareConfig, EvalConfig


def evaluate(args: Sequence[str]) -> int:
    """Score a model on benchmarks; exit code 1 when one of them failed."""
    if args and args[0] == "compare":
        return compare(args[1:])
    config = config_from_args(EvalConfig, args, "autoalign-cli eval")

    from autoalign.evaluation.run import run

    report = run(config)
    print(report.summary())
    return 1 if report.failed else 0


def compare(args: Sequence[str]) -> int:
    """Put models side by side; names may stand without a flag."""
    count = next((place for place, word in enumerate(args) if word.startswith("-")), len(args))
    models = ["--models", *args[:count]] if count else []
    config = config_from_args(CompareConfig, [*models, *args[count:]], "autoalign-cli eval compare")

    from autoalign.evaluation.compare import run

    print(run(config).summary())
    return 0
