"""Tables of the scale benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RATE_AIM, GROWTH_AIM, SCALING_AIM = 10_000, 300, 0.95


def tables(found: Mapping[str, Any]) -> str:
    """Rows, then replicas."""
    return "\n\n".join(part for part in (_rows(found), _replicas(found)) if part)


def _rows(found: Mapping[str, Any]) -> str:
    names = sorted(
        (key for key in found if key.startswith("rows/")), key=lambda key: (found[key]["rows"], key)
    )
    if not names:
        return ""
    lines = [
        f"| rows | rows/s, whole job (aim {RATE_AIM:,}) | while answering | "
        "driver's CPU a row | driver's memory: before the first row, most, growth | "
        f"of all processes (growth: aim under {GROWTH_AIM} MiB) | run on |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in names:
        one = found[name]
        memory = " | ".join(_memory(one, whose) for whose in ("driver", "all"))
        parts = name.split("/")
        kind = f"{one['rows']:,}, " + ("in one process" if "local" in parts else "through Ray")
        kind += ", rendered and tokenised" if "chat" in parts else ""
        lines.append(
            f"| {kind} | {one['rows_per_second']:,.0f} | {one['answers_per_second']:,.0f} | "
            f"{one['driver_cpu_microseconds_a_row']:.0f} µs | {memory} | {_where(one)} |"
        )
    return "\n".join(lines)


def _memory(one: Mapping[str, Any], whose: str) -> str:
    before, most, growth = (one[f"{whose}_{what}"] for what in ("before_mib", "mib", "growth_mib"))
    return f"{before:.0f}, {most:.0f} MiB, +{growth:.0f}"


def _replicas(found: Mapping[str, Any]) -> str:
    names = sorted(
        (key for key in found if key.startswith("replicas/")), key=lambda key: found[key]["replicas"]
    )
    if not names:
        return ""
    lines = [
        f"| replicas | answers/s | of what latency allows (aim {SCALING_AIM}) | over one replica | run on |"
    ]
    lines.append("|---|---|---|---|---|")
    base = found[names[0]]
    one_rate = base["answers_per_second"] / base["replicas"]
    for name in names:
        one = found[name]
        rate = one["answers_per_second"]
        lines.append(
            f"| {one['replicas']} | {rate:,.0f} | {rate / one['ideal']:.2f} | "
            f"{rate / one_rate / one['replicas']:.2f} | {_where(one)} |"
        )
    return "\n".join(lines)


def _where(one: Mapping[str, Any]) -> str:
    return f"{one['date'][:10]}, {one['commit']}, {one['cpus']} CPUs, load {one['load_at_start']}"
