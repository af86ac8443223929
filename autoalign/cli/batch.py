"""`autoalign-cli batch`."""

from __future__ import annotations

from collections.abc import Sequence

from autoalign.cli.flags import config_from_args
from autoalign.config.batch import BatchConfig


def batch(args: Sequence[str]) -> int:
    """Answer a file of OpenAI requests."""
    config = config_from_args(BatchConfig, args, "autoalign-cli batch")

    from autoalign.batching.run import run

    report = run(config)
    done = f"{report.completed} of {report.total} requests answered, {report.output_tokens} output tokens"
    print(f"done: {done}\n  answers  {config.output_file}\n  errors   {config.error_file}")
    return 0
