"""The end of a process that leads a group of its own, and of all that it started."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress

_PATIENCE = 10.0  # seconds between asking and killing


def end_group(process: subprocess.Popen[bytes]) -> None:
    """First asked, then killed; what has ended already is no fault."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
