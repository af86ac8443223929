"""`kernels.c` as a library of this machine: compiled once, kept in the cache folder, loaded by ctypes."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from autoalign.atomic_files import replacing
from autoalign.cache_folder import default_cache_dir

SOURCE = Path(__file__).with_name("kernels.c")
SWITCH = "AUTOALIGN_KERNELS"
"""Environment variable: 0 leaves everything to PyTorch."""
_FLAGS = (
    "-O3",
    "-march=native",
    "-mprefer-vector-width=512",
    "-fopenmp",
    "-fno-math-errno",
    "-fno-trapping-math",
)
_COMPILE_SECONDS = 120

_LONG, _FLOAT, _INT, _POINTER = ctypes.c_long, ctypes.c_float, ctypes.c_int, ctypes.c_void_p
_SIGNATURES = {
    "rms_norm": (_POINTER, _POINTER, _FLOAT, _INT, _LONG, _LONG, _POINTER, _POINTER),
    "rms_norm_backward": (*4 * (_POINTER,), *3 * (_LONG,), _POINTER, _POINTER),
    "swiglu": (_POINTER, _POINTER, _LONG, _POINTER),
    "swiglu_backward": (_POINTER, _POINTER, _POINTER, _LONG, _POINTER, _POINTER),
    "rotate": (_POINTER, _LONG, _LONG, _POINTER, _POINTER, _INT, *3 * (_LONG,), _POINTER, _LONG, _LONG),
    "softmax_rows": (_POINTER, _POINTER, _POINTER, _LONG, _LONG, _POINTER),
}


@cache
def load() -> ctypes.CDLL | None:
    """The library; None without a C compiler, where it can't be compiled, or where it is switched off."""
    if os.environ.get(SWITCH, "1") == "0":
        return None
    compiler = shutil.which(os.environ.get("CC", "gcc")) or shutil.which("cc")
    if compiler is None:
        return None
    import torch  # noqa: F401 (its OpenMP is the one that the library finds)

    try:
        library = ctypes.CDLL(str(_compiled(compiler, default_cache_dir() / "kernels")))
    except (OSError, subprocess.SubprocessError):
        return None
    for name, arguments in _SIGNATURES.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, None
    return library


def _compiled(compiler: str, folder: Path) -> Path:
    """The library's file, made where it is not there.

    Its name holds source, flags, compiler and the CPU's abilities: a cache folder may be shared by machines.
    """
    stated = (SOURCE.read_bytes(), " ".join(_FLAGS).encode(), compiler.encode(), _cpu_flags())
    path = folder / f"kernels-{hashlib.sha256(b'|'.join(stated)).hexdigest()[:16]}.so"
    if not path.is_file():
        with replacing(path) as temporary:
            command = [
                compiler,
                *_FLAGS,
                "-shared",
                "-fPIC",
                "-std=gnu11",
                str(SOURCE),
                "-o",
                str(temporary),
                "-lm",
            ]
            subprocess.run(command, check=True, capture_output=True, timeout=_COMPILE_SECONDS)
    return path


def _cpu_flags() -> bytes:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return b""
    return next((line for line in lines if line.startswith("flags")), "").encode()
