"""What one module sets for its tiny models is not left to the next one's real ones."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def threads_as_before() -> Iterator[None]:
    """A job that runs here with `cpus_per_worker` sets torch's threads for the whole process."""
    before = os.environ.get("OMP_NUM_THREADS")
    threads = sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None
    yield
    if before is None:
        os.environ.pop("OMP_NUM_THREADS", None)
    if threads is not None:
        sys.modules["torch"].set_num_threads(threads)
