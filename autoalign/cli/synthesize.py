"""`autoalign-cli synthesize`."""

from __future__ import annotations

from collections.abc import Sequence

from autoalign.cli.flags import config_from_args
from autoalign.config.synthesize import SynthesizeConfig


def synthesize(args: Sequence[str]) -> int:
    """Make training conversations with a model."""
    config = config_from_args(SynthesizeConfig, args, "autoalign-cli synthesize")

    from autoalign.synthesizing.run import run

    print(run(config).summary())
    return 0
