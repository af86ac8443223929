"""Where the time of two of our fine-tuning steps goes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from torch.profiler import ProfilerActivity, profile

from benchmarks import gemm
from benchmarks.plan import Settings

_TOP = 12
_PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::matmul", "aten::linear", "mkldnn")
_OPTIMIZER = ("adam", "Optimizer.", "_foreach", "vector_norm")
_ELEMENTWISE = re.compile(
    r"(mul|add|sub|rsub|div|neg|pow|mean|sum|rsqrt|silu|silu_backward|cat|copy|_to_copy|clone|fill|zero|where|exp|"
    r"slice_backward|select_backward|index|index_select|embedding|embedding_dense_backward)_?"
)


def measure(settings: Settings) -> dict[str, Any]:
    """Share of the self CPU time by group and by operation, over the measured steps."""
    from benchmarks.autoalign_side import ClockReporter, train_sft

    profiler = profile(activities=[ProfilerActivity.CPU], record_shapes=True)

    def switch(done: int) -> None:
        if done == 1:
            profiler.start()
        elif done == settings.total_steps:
            profiler.stop()

    reporter = ClockReporter(switch)
    train_sft(settings, reporter)
    # The warm-up's mark is taken before the profiler starts, whose own start takes a moment.
    seconds = reporter.meter.marks[-1].seconds - reporter.meter.marks[0].seconds
    events = [
        event for event in profiler.key_averages(group_by_input_shape=True) if event.self_cpu_time_total
    ]
    vocabulary = gemm.head(settings.model).outputs
    total = sum(event.self_cpu_time_total for event in events)
    return {
        "steps": settings.steps,
        "seconds": round(seconds, 3),
        "self_cpu_seconds": round(total / 1e6, 3),
        "groups": _shares(((group_of(e.key, e.input_shapes, vocabulary), e) for e in events), total),
        "operations": dict(list(_shares(((e.key, e) for e in events), total).items())[:_TOP]),
    }


def group_of(name: str, shapes: Any, vocabulary: int) -> str:
    """Which part of a step an operation belongs to.

    Args:
        shapes: of its inputs; an operation on logits is known by the vocabulary's size.
    """
    is_product = name.startswith(_PRODUCTS)
    tensors = [shape for shape in shapes or () if isinstance(shape, list) and shape]
    # A weight of the vocabulary's size has it first, logits have it last.
    if any(vocabulary in shape if is_product else shape[-1] == vocabulary for shape in tensors):
        return "head and loss"
    if "attention" in name or "attend" in name:
        return "attention, backward" if "backward" in name.lower() else "attention, forward"
    if is_product:
        return "matrix products"
    if any(part in name for part in _OPTIMIZER):
        return "optimizer"
    if _ELEMENTWISE.fullmatch(name.removeprefix("aten::")):
        return "norms and elementwise"
    return "other"


def _shares(named: Iterable[tuple[str, Any]], total: float) -> dict[str, float]:
    sums: dict[str, float] = {}
    for name, event in named:
        sums[name] = sums.get(name, 0.0) + event.self_cpu_time_total
    ordered = sorted(sums.items(), key=lambda item: -item[1])
    return {name: round(100 * value / total, 1) for name, value in ordered}
