"""A Ray head of a test module's own, with token authentication, on ports and in folders of its own."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

RAY = Path(sys.executable).with_name("ray")


class Head(NamedTuple):
    """A running head: its dashboard's address and the environment of those who may use it."""

    address: str
    env: dict[str, str]


def free_ports(count: int) -> list[str]:
    """Ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [str(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def wait_until_up(address: str, token: str, process: subprocess.Popen[bytes], seconds: float = 90) -> None:
    """Until the dashboard answers."""
    request = urllib.request.Request(f"{address}/api/version", headers={"Authorization": f"Bearer {token}"})
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, f"ray start ended with {process.returncode}"
        try:
            with urllib.request.urlopen(request, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail(f"no dashboard at {address} after {seconds} s")


def end_with_children(process: subprocess.Popen[bytes]) -> None:
    """End what this module started and nothing else: `ray stop` would end every cluster of the machine."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.terminate()
    _, alive = psutil.wait_procs(family, timeout=3)
    for member in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait(timeout=10)


@contextmanager
def running_head() -> Iterator[Head]:
    """A cluster of this module alone."""
    folder = Path(tempfile.mkdtemp(prefix="aa-ray-"))  # short: Ray puts sockets into it
    token = secrets.token_hex(32)
    (folder / "token").write_text(token)
    (folder / "token").chmod(0o600)
    gcs, dashboard, agent, client = free_ports(4)
    env = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "token")}
    env |= {"PATH": f"{RAY.parent}:{env['PATH']}", "RAY_USAGE_STATS_ENABLED": "0"}
    flags = f"--head --block --num-cpus=3 --object-store-memory=200000000 --port={gcs} --temp-dir={folder}"
    flags += f" --dashboard-port={dashboard} --dashboard-agent-listen-port={agent}"
    flags += f" --ray-client-server-port={client}"
    with (folder / "start.log").open("w") as log:
        process = subprocess.Popen([RAY, "start", *flags.split()], env=env, stdout=log, stderr=log)
    try:
        wait_until_up(f"http://127.0.0.1:{dashboard}", token, process)
        yield Head(f"http://127.0.0.1:{dashboard}", env)
    finally:
        end_with_children(process)
        shutil.rmtree(folder, ignore_errors=True)
