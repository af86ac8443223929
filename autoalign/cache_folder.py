"""Where this machine keeps what can be made again: tokenised data, reference log-probs, compiled kernels."""

from __future__ import annotations

import os
from pathlib import Path


def default_cache_dir() -> Path:
    """`AUTOALIGN_CACHE`, or `~/.cache/autoalign`."""
    return Path(os.environ.get("AUTOALIGN_CACHE", "~/.cache/autoalign")).expanduser()
