"""`autoalign-cli serve` as a user starts it: a process, a port, a token."""

from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

_START = 300.0


@dataclass(frozen=True)
class Endpoint:
    """A running one."""

    url: str
    token: str
    process: subprocess.Popen[str]

    def metric(self, name: str) -> float:
        """The sum of a figure over its labels."""
        headers = {"Authorization": f"Bearer {self.token}"}
        request = urllib.request.Request(f"{self.url}/metrics", headers=headers)
        with urllib.request.urlopen(request) as answer:
            lines = answer.read().decode().splitlines()
        return sum(
            float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name} ", f"{name}{{"))
        )


@contextmanager
def served(home: Path, *flags: str, scopes: Sequence[str] = ("infer",)) -> Iterator[Endpoint]:
    """Start it with a token in force; at the end Ctrl-C, after which nothing of it may be left."""
    environment = {
        **os.environ,
        "AUTOALIGN_HOME": str(home),
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "OMP_NUM_THREADS": "2",
    }
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "autoalign.cli.main", "serve", "--require_tokens", f"--port={port}"]
    with (home / "stderr.txt").open("w") as errors:
        process = subprocess.Popen(
            [*command, *flags], stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        )
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read, args=(process, lines), daemon=True).start()
    try:
        while not lines.get(timeout=_START).startswith("ready on "):
            pass
        yield Endpoint(f"http://127.0.0.1:{port}", token_of(home, scopes), process)
    finally:
        family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(signal.SIGINT)
        code = process.wait(120)
        left = [each for each in family if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
        assert (code, left) == (0, [])


def _read(process: subprocess.Popen[str], lines: queue.Queue[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)
    lines.put("ready on nothing: it ended")


def token_of(home: Path, scopes: Sequence[str]) -> str:
    """A new token of the platform in `home`."""
    from autoalign.jobs.database import Database
    from autoalign.jobs.token_store import TokenStore

    return TokenStore(Database(f"sqlite:///{home / 'autoalign.db'}")).create("test", scopes).text
