"""A PostgreSQL server of a test's own, on a socket and a port of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_USER = "autoalign"


def programs() -> Path:
    """The folder of initdb and postgres; skips where there are none."""
    found = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "initdb").is_file()]
    on_path = shutil.which("initdb")
    if on_path:
        found.append(Path(on_path).parent)
    if not found:
        pytest.skip("PostgreSQL is absent: apt-get install postgresql")
    return found[0]


class Server:
    """A server that can be killed and started again."""

    def __init__(self, folder: Path, port: int) -> None:
        self._bin, self._folder, self._port = programs(), folder, port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """For AUTOALIGN_DATABASE_URL."""
        return f"postgresql://{_USER}@127.0.0.1:{self._port}/postgres"

    def initialise(self) -> None:
        """Make the data folder."""
        done = subprocess.run(
            [self._bin / "initdb", "-D", self._folder / "data", "-U", _USER, "--auth=trust", "--no-sync"],
            capture_output=True,
            text=True,
            **_as_another_user(),
        )
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = ["-p", str(self._port), "-k", str(self._folder), "-h", "127.0.0.1", "-F"]
        self._process = subprocess.Popen(
            [self._bin / "postgres", "-D", self._folder / "data", *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **_as_another_user(),
        )
        deadline = time.monotonic() + 60
        ready = [self._bin / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self._port)]
        while subprocess.run(ready).returncode != 0:
            assert self._process.poll() is None, "postgres has ended"
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def stop(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.send_signal(3)  # SIGQUIT: immediate shutdown
            self._process.wait(timeout=30)


def _as_another_user() -> dict[str, object]:
    """PostgreSQL does not run as root."""
    if os.getuid() != 0:
        return {}
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        user = pwd.getpwnam("nobody")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "cwd": "/"}


@contextmanager
def server() -> Iterator[Server]:
    """A running server; its files are gone afterwards."""
    programs()
    folder = Path(tempfile.mkdtemp(prefix="aa-pg-"))
    other = _as_another_user()
    if other:
        os.chown(folder, int(str(other["user"])), int(str(other["group"])))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = Server(folder, port)
    try:
        running.initialise()
        running.start()
        yield running
    finally:
        running.stop()
        shutil.rmtree(folder, ignore_errors=True)
