"""A job's folder: its config, its log, what it writes, and how it ended.

config.yaml   what the command reads
log.txt       what the command prints, attempts one after the other
lock          held as long as a process of the job lives
started       the attempts that began, a line each
ruled_out     the attempts that may not begin any more, a line each
outcome.json  the exit code of an attempt that ended by itself
out/          results
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from autoalign.atomic_files import write_text
from autoalign.errors import JobFailed, StoppedEarly
from autoalign.manifest import write_json

_TAIL_BYTES = 16 << 10


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended: the command's exit code."""

    run_id: str
    exit_code: int


@dataclass(frozen=True)
class JobFolder:
    """The files of one job at `path`."""

    path: Path

    @property
    def config(self) -> Path:
        """The command's config file."""
        return self.path / "config.yaml"

    @property
    def log(self) -> Path:
        """What the command printed."""
        return self.path / "log.txt"

    @property
    def out(self) -> Path:
        """Its results."""
        return self.path / "out"

    def create(self, config: Mapping[str, Any]) -> None:
        """Make the folder with its config, whole or not at all."""
        self.out.mkdir(parents=True, mode=0o700)
        text = yaml.safe_dump(dict(config), allow_unicode=True, sort_keys=False)
        write_text(self.config, text)

    @contextmanager
    def held(self, run_id: str, patience: float) -> Iterator[None]:
        """Be the only process of the job; an earlier attempt's is waited for.

        Raises:
            JobFailed: another process of the job is still there after `patience` seconds.
            StoppedEarly: the attempt was ruled out before it began.
        """
        with (self.path / "lock").open("a") as lock:
            deadline = time.monotonic() + patience
            while not _try_lock(lock.fileno()):
                if time.monotonic() > deadline:
                    raise JobFailed(f"{self.path}: another process of this job is still at work")
                time.sleep(0.2)
            with (self.path / "started").open("a") as file:
                file.write(f"{run_id}\n")
            # Only now: `rule_out` writes first and looks then, so one of the two sees the other.
            if run_id in _lines(self.path / "ruled_out"):
                raise StoppedEarly("the job has ended before this attempt of it began")
            yield

    def rule_out(self, run_id: str) -> bool:
        """Have an attempt never begin, though its runner may yet start it; False where it has begun."""
        with (self.path / "ruled_out").open("a") as file:
            file.write(f"{run_id}\n")
        return not self.is_held() and not self.has_started(run_id)

    def is_held(self) -> bool:
        """Whether a process of the job lives."""
        try:
            with (self.path / "lock").open("r+") as lock:
                return not _try_lock(lock.fileno())
        except FileNotFoundError:
            return False

    def has_started(self, run_id: str) -> bool:
        """Whether this attempt's process ever began."""
        return run_id in _lines(self.path / "started")

    def outcome(self) -> Outcome | None:
        """How the last attempt that ended by itself ended."""
        try:
            found = json.loads((self.path / "outcome.json").read_bytes())
            return Outcome(found["run_id"], found["exit_code"])
        except (FileNotFoundError, ValueError, KeyError):
            return None

    def write_outcome(self, outcome: Outcome) -> None:
        """Keep how an attempt ended."""
        write_json(
            self.path / "outcome.json",
            {"run_id": outcome.run_id, "exit_code": outcome.exit_code, "time": time.time()},
        )

    def log_tail(self, count: int = _TAIL_BYTES) -> str:
        """The last `count` bytes of the log."""
        try:
            with self.log.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - count))
                return file.read(count).decode("utf-8", "replace").replace("\0", "\ufffd")
        except FileNotFoundError:
            return ""


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.is_file() else []


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
