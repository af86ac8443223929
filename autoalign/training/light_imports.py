"""Imports that other libraries make on the way, at the cost of start-up and memory: left out where unused."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without(name: str) -> Iterator[None]:
    """Let `import name` fail in the block, as if it were not installed; one that is loaded stays."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


def leave_triton_out() -> None:
    """Let PyTorch find no Triton where it is built for CPUs alone, and can't use it.

    Transformers' attention masks have it look for Triton, and looking is importing: 70 MB, half a second.
    It remembers the first answer.
    """
    import torch
    from torch.utils import _triton

    if torch.version.cuda is None and torch.version.hip is None:
        with without("triton"):
            _triton.has_triton_package()


def save_without_deepspeed() -> None:
    """Let transformers save a model without an import of DeepSpeed.

    It asks accelerate whether DeepSpeed wraps the model, which imports DeepSpeed wherever it is
    installed. A model whose process never imported it is wrapped by nothing of it.
    """
    asking = sys.modules.get("accelerate.utils.other")
    if asking is not None:
        asking.is_deepspeed_available = lambda: "deepspeed" in sys.modules  # type: ignore[attr-defined]
