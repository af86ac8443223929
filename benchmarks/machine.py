"""What the figures were measured on."""

from __future__ import annotations

import datetime
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("torch", "transformers", "trl", "accelerate")  # of the training benchmark


def facts(root: Path, packages: Sequence[str] = _PACKAGES) -> dict[str, Any]:
    """Processor, memory, load, versions, commit and date."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processor": _field("/proc/cpuinfo", r"model name\s*: (.+)") or platform.processor(),
        "cpus": len(os.sched_getaffinity(0)),
        "avx512_bf16": "avx512_bf16" in (_field("/proc/cpuinfo", r"flags\s*: (.+)") or ""),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_at_start": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in packages},
        "commit": _commit(root),
    }


def _field(path: str, pattern: str) -> str | None:
    found = re.search(pattern, Path(path).read_text(encoding="utf-8"))
    return found[1].strip() if found else None


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        raise SystemExit(f"{package} is missing: pip install '.[bench]'") from None


def _commit(root: Path) -> str:
    """The commit, with `-dirty` when files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def portable(settings: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """Settings to be kept: paths relative to `root`, as they differ from machine to machine."""
    return {
        key: os.path.relpath(value, root) if isinstance(value, str) and Path(value).is_absolute() else value
        for key, value in settings.items()
    }
