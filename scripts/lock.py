"""Resolve pyproject's extras and write a fully pinned lock file: `python scripts/lock.py cpu`.

Nothing is installed: pip resolves with `--dry-run --report`, and the report's
versions are written down. A lock is installed with `--no-deps` (scripts/setup.sh).
Hashes are left out, because a machine may offer its own build of torch.

    cpu       the main environment without a GPU; needs an index that offers torch's CPU build
    gpu       the main environment on CUDA
    eval-cpu  OpenCompass's environment
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent


class Lock(NamedTuple):
    """What one lock file is resolved from."""

    extras: str
    left_out: frozenset[str]
    why_left_out: str
    beside: tuple[str, ...] = ()


# Only CUDA-linked builds of these exist on PyPI; where CUDA is missing they break transformers' imports.
_CUDA_ONLY = frozenset({"torchvision", "torchaudio", "torchcodec"})

# The LiteLLM client, for one test. It asks for openai<3 and works with 3; resolved with the rest it would
# hold back the openai client, which everything else is tested with.
_BESIDE = ("fastuuid==0.14.0", "litellm==1.106.2")

LOCKS = {
    "cpu": Lock(
        "train,track,sample,score,serve,cpu,bench,dev",
        _CUDA_ONLY,
        "torchvision, torchaudio, torchcodec are left out: their builds link CUDA and break transformers.",
        _BESIDE,
    ),
    "gpu": Lock("train,track,sample,score,serve,gpu,bench,dev", frozenset(), "", _BESIDE),
    "eval-cpu": Lock("eval", _CUDA_ONLY, ""),
}
# Needed by `pip install --no-build-isolation --editable .` and by torch's compiler of extensions.
_BUILD = "setuptools==77.0.3"


def resolve(extras: str) -> dict[str, str]:
    """Name to version of everything that `pip install .[extras]` would bring, in a fresh environment."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
        subprocess.run([*command, "--report", report, _BUILD, f"{ROOT}[{extras}]"], check=True)
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    pairs = ((item["metadata"]["name"], item["metadata"]["version"]) for item in found)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pairs}


def lock_text(name: str, lock: Lock, versions: dict[str, str]) -> str:
    """The lock file; local versions such as `+cpu` are cut off, so that any build of a release will do."""
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    header = [
        f"# Written by: python scripts/lock.py {name}   (Python {python}, x86-64 Linux)",
        "# Installed by scripts/setup.sh with --no-deps. Do not edit.",
    ]
    if lock.why_left_out:
        header.append(f"# {lock.why_left_out}")
    left_out = lock.left_out | {"autoalign"}
    versions = {**versions, **dict(pin.split("==") for pin in lock.beside)}
    pins = [f"{key}=={value.split('+')[0]}" for key, value in sorted(versions.items()) if key not in left_out]
    return "\n".join([*header, *pins]) + "\n"


def main() -> None:
    """Write `requirements/NAME.lock`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=LOCKS)
    name = parser.parse_args().name
    path = ROOT / "requirements" / f"{name}.lock"
    text = lock_text(name, LOCKS[name], resolve(LOCKS[name].extras))
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
    print(f"{path.relative_to(ROOT)}: {text.count('==')} packages")


if __name__ == "__main__":
    main()
