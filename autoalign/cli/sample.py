"""`autoalign-cli infer`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from autoalign.cli.flags import config_from_args
from autoalign.config.sample import InferConfig

EXAMPLE = Path("configs/infer.yaml")
# Flags of the toolkit that this one follows, and what they are called here.
_FORMER = {
    "--max-new-tokens-per-utterance": ["--max_new_tokens"],
    "--num_gpus_per_model": ["--tensor_parallel_size"],
    "--debug-mode": ["--limit", "1000"],
}


def infer(args: Sequence[str]) -> int:
    """Answer a file of prompts; without any argument, the example config of the repository."""
    if not args and EXAMPLE.is_file():
        print(f"infer: no arguments given, so {EXAMPLE} is run", file=sys.stderr)
        args = ["--config", str(EXAMPLE)]
    config = config_from_args(InferConfig, _translate(args), "autoalign-cli infer")

    from autoalign.sampling.report import print_report
    from autoalign.sampling.run import run_each

    for report in run_each(config):
        print_report(report)
    return 0


def _translate(args: Sequence[str]) -> list[str]:
    translated: list[str] = []
    for arg in args:
        flag, equals, value = arg.partition("=")
        translated += [*_FORMER[flag], *([value] if equals else [])] if flag in _FORMER else [arg]
    return translated
