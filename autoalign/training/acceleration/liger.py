"""Liger Kernel (arXiv:2410.10989): RMSNorm, RoPE and SwiGLU as fused Triton kernels.

Its fused cross-entropy stays off: the head runs on supervised positions alone, in chunks, which
does less work than any kernel over all positions.
"""

from __future__ import annotations

import inspect
from typing import Any

from autoalign.errors import ConfigError, MissingDependency

_WANTED = {
    "rope": True,
    "rms_norm": True,
    "swiglu": True,
    "geglu": True,
    "layer_norm": True,
    "cross_entropy": False,
    "fused_linear_cross_entropy": False,
}


def apply(model: Any) -> None:
    """Put the kernels into a loaded transformers model.

    Raises:
        MissingDependency: liger-kernel is not installed.
        ConfigError: no GPU, or a model that Liger has no kernels for.
    """
    _require_gpu()
    try:
        from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN
    except ImportError:
        raise MissingDependency("--use_liger_kernel needs Liger Kernel: pip install liger-kernel") from None
    kind = model.config.model_type
    patch = MODEL_TYPE_TO_APPLY_LIGER_FN.get(kind)
    if patch is None:
        known = ", ".join(sorted(MODEL_TYPE_TO_APPLY_LIGER_FN))
        raise ConfigError(f"--use_liger_kernel: Liger has no kernels for '{kind}' models, only for {known}")
    takes = inspect.signature(patch).parameters
    patch(model=model, **{name: wanted for name, wanted in _WANTED.items() if name in takes})


def _require_gpu() -> None:
    import torch

    if not torch.cuda.is_available():
        raise ConfigError("--use_liger_kernel needs a GPU: its kernels are Triton's; leave it out on a CPU")
