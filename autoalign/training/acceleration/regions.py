"""torch.compile, one decoder layer at a time.

All layers run the same code, so that one compilation serves them all and start-up does not grow
with the model ("regional compilation"). Shapes are dynamic, since no two batches laid end to end
have the same length. Attention stays outside: it is a kernel already, and what it is told of rows
(how many tokens each has) would otherwise be compiled in, and again with the next batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from autoalign.errors import MissingDependency

Attention = Callable[..., tuple[Tensor, None]]
_HIDDEN = ("row_lengths", "shared_lengths", "share")


class _Sealed:
    """Carries arguments through compiled code, which takes a look at its type alone."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.content = content


def between(attend: Attention) -> Attention:
    """`attend`, called between compiled regions with what `compile_layers` sealed."""

    def attend_between(*args: Any, sealed: _Sealed | None = None, **kwargs: Any) -> tuple[Tensor, None]:
        return attend(*args, **kwargs, **(sealed.content if sealed is not None else {}))

    uncompiled: Attention = torch.compiler.disable(attend_between)
    return uncompiled


def compile_layers(model: Any, layers: nn.ModuleList) -> None:
    """Compile each layer at its first use.

    Args:
        model: a transformers model, or one with adapters, that `layers` belong to.

    Raises:
        MissingDependency: there is no C++ compiler for the CPU's kernels.
    """
    if next(model.parameters()).device.type == "cpu" and not torch.cuda.is_available():
        _require_compiler()
    for layer in layers:
        layer.register_forward_pre_hook(_seal, with_kwargs=True)
        layer.compile(dynamic=True)


def _seal(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    hidden = {name: kwargs.pop(name) for name in _HIDDEN if name in kwargs}
    return args, {**kwargs, "sealed": _Sealed(hidden)} if hidden else kwargs


def _require_compiler() -> None:
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        raise MissingDependency(
            "--torch_compile needs a C++ compiler: apt-get install g++ (or name one in CXX)"
        ) from None
