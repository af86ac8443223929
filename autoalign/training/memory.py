"""How much memory this machine, or its container, has left."""

from __future__ import annotations

import os
import resource
from pathlib import Path

_MEMORY_INFO = Path("/proc/meminfo")
_OWN_PAGES = Path("/proc/self/statm")
_CGROUP = Path("/sys/fs/cgroup")


def free_memory() -> int:
    """Bytes that this machine has left, or its container (cgroup v2), where that is less."""
    if not _MEMORY_INFO.is_file():
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    lines = dict(line.split(":") for line in _MEMORY_INFO.read_text(encoding="ascii").splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    limit, used, stat = (_CGROUP / f"memory.{name}" for name in ("max", "current", "stat"))
    if limit.is_file() and used.is_file() and (most := limit.read_text().strip()).isdigit():
        figures = dict(line.split() for line in stat.read_text().splitlines())
        # Files' pages are given back when memory is wanted.
        free = min(free, int(most) - int(used.read_text()) + int(figures.get("inactive_file", 0)))
    return free


def spare_memory() -> int:
    """Bytes left when this process is again as large as it has been at its largest.

    Between two steps the activations and gradients are gone, and the next step wants them back.
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    now = peak
    if _OWN_PAGES.is_file():
        now = int(_OWN_PAGES.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return free_memory() - max(0, peak - now)
