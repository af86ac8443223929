"""`autoalign-cli score`."""

from __future__ import annotations

from collections.abc import Sequence

from autoalign.cli.flags import config_from_args
from autoalign.config.score import ScoreConfig


def score(args: Sequence[str]) -> int:
    """Score every answer of a file."""
    config = config_from_args(ScoreConfig, args, "autoalign-cli score")

    from autoalign.scoring.run import run

    print(run(config).summary())
    return 0
