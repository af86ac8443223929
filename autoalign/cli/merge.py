"""`autoalign-cli merge`."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING

from autoalign.cli.flags import config_from_args
from autoalign.config.merge import MergeConfig
from autoalign.errors import MissingDependency

if TYPE_CHECKING:
    from autoalign.merging.run import MergeReport


def merge(args: Sequence[str]) -> int:
    """Combine checkpoints, or write LoRA adapters into their base."""
    config = config_from_args(MergeConfig, args, "autoalign-cli merge")
    for library in ("torch", "safetensors"):
        if importlib.util.find_spec(library) is None:
            raise MissingDependency(f"merge needs {library}: pip install 'autoalign[train]'")
    from autoalign.merging.run import run

    print(summary(run(config)))
    return 0


def summary(report: MergeReport) -> str:
    """What came out, where it is, and what to do next."""
    rate = report.bytes / max(report.seconds, 1e-9) / 1e6
    return "\n".join(
        [
            f"done: {report.method}, {report.tensors} tensors, {report.bytes / 1e9:.2f} GB "
            f"in {report.seconds:.1f} s ({rate:.0f} MB/s)",
            f"  model  {report.output_dir}",
            f"next: autoalign-cli chat --model-path {report.output_dir}",
        ]
    )
