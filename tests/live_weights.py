"""`python -m tests.live_weights CONFIG.json LIVE.safetensors`: `sft` under ZeRO-3, and what it holds.

Before the export, every parameter of the sharded model is gathered by DeepSpeed's own call, all at once
and apart from the code that exports. Runs alone, or as each of torchrun's processes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from autoalign.config.sft import SFTConfig
from autoalign.training.run import run
from autoalign.training.saving import Saver


def main(config: Path, live: Path) -> None:
    """Train, and gather at the end."""
    final = Saver.final

    def gathered_final(saver: Saver, *args: Any, **values: Any) -> None:
        import deepspeed
        from safetensors.torch import save_file

        model = saver._engine.module.model
        with deepspeed.zero.GatheredParameters(list(model.parameters())):
            weights = {name: p.detach().clone().contiguous() for name, p in model.named_parameters()}
        if saver._world.is_main:
            save_file(weights, live)
        final(saver, *args, **values)

    Saver.final = gathered_final  # type: ignore[method-assign]
    run(SFTConfig(**json.loads(config.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
