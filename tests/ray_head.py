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
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

RAY = Path(sys.executable).with_name("ray")


@dataclass
class Head:
    """A head: its dashboard's address, the environment of those who may use it, and how it is started."""

    address: str
    env: dict[str, str]
    flags: list[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def token(self) -> str:
        """What opens it."""
        return Path(self.env["RAY_AUTH_TOKEN_PATH"]).read_text()

    def start(self) -> None:
        """Start it, and wait until it answers. One that was killed knows nothing of what it was."""
        with self.log.open("w") as log:
            self.process = subprocess.Popen([RAY, "start", *self.flags], env=self.env, stdout=log, stderr=log)
        wait_until_up(self.address, self.token, self.process)

    def kill(self) -> None:
        """SIGKILL to Ray's own processes; what they have started finds itself alone."""
        assert self.process is not None
        daemons = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children()]
        for daemon in daemons:
            daemon.kill()
        psutil.wait_procs(daemons, timeout=10)
        self.process.wait(timeout=10)


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
    env["RAY_worker_niceness"] = "0"  # its default of 15 lets anything else on the machine go first
    flags = f"--head --block --num-cpus=3 --object-store-memory=200000000 --port={gcs} --temp-dir={folder}"
    flags += f" --dashboard-port={dashboard} --dashboard-agent-listen-port={agent}"
    flags += f" --ray-client-server-port={client}"
    head = Head(f"http://127.0.0.1:{dashboard}", env, flags.split(), folder / "start.log")
    try:
        head.start()
        yield head
    finally:
        if head.process is not None:
            end_with_children(head.process)
        shutil.rmtree(folder, ignore_errors=True)
