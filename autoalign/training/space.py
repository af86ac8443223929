"""Is there room on the disk for what the job will write?"""

from __future__ import annotations

import errno
import json
import math
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from autoalign.config.train import TrainConfig
from autoalign.errors import ConfigError, JobFailed
from autoalign.training import best, checkpoint

FreeBytes = Callable[[Path], int]


def parameter_count(folder: Path) -> int:
    """Weights in a model folder's safetensors files, from their headers."""
    return sum(map(math.prod, weight_shapes(folder).values()))


def weight_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Shape of every weight in a model folder's safetensors files; their headers alone are read."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        shapes |= _shapes_in(path)
    return shapes


def _shapes_in(path: Path) -> dict[str, tuple[int, ...]]:
    # https://huggingface.co/docs/safetensors: 8 bytes of header length, then a JSON header.
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    return {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}


def bytes_needed(config: TrainConfig, parameters: int) -> int:
    """What the final model and the checkpoints kept at once take (one more while one is replaced)."""
    weights = parameters * (2 if config.bf16 else 4)
    if config.use_lora or config.save_steps is None:
        return weights
    checkpoint = parameters * 14 if config.bf16 else parameters * 12
    kept = min((config.save_total_limit or 2) + 1, 3) + (1 if best.metric_name(config) else 0)
    return weights + kept * checkpoint


def require(
    config: TrainConfig, model_path: str, free_bytes: FreeBytes | None = None, reclaimed: int = 0
) -> None:
    """Is there room under output_dir?

    Args:
        free_bytes: gives the free bytes on a folder's disk.
        reclaimed: bytes of an older run that will be deleted first.

    Raises:
        ConfigError: there is not.
    """
    folder = Path(config.output_dir)
    free = (free_bytes or _free)(nearest_folder(folder)) + reclaimed
    needed = bytes_needed(config, parameter_count(Path(model_path)))
    if free < needed:
        raise ConfigError(
            f"output_dir {folder}: {show_bytes(free)} are free on its disk, the model and its checkpoints "
            f"take {show_bytes(needed)}; free some space, keep fewer checkpoints (--save_total_limit), or "
            "give another --output_dir"
        )


def nearest_folder(path: Path) -> Path:
    """`path`, or what stands nearest above it."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


@contextmanager
def full_disk_ends_the_job(folder: Path) -> Iterator[None]:
    """Turn a disk that fills up meanwhile into JobFailed."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        if not _is_full(error):
            raise
        kept = [path.name for path in checkpoint.find_checkpoints(folder)]
        whole = f"{kept[-1]} is whole, older ones may go" if kept else "there is no checkpoint yet"
        raise JobFailed(
            f"output_dir {folder}: its disk is full; {whole}. Free some space and run the same command "
            "again to go on; --save_total_limit N keeps N checkpoints"
        ) from None


def _is_full(error: Exception) -> bool:
    # safetensors writes in Rust, and gives the system's error as text alone.
    codes = (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "errno", None) in codes or any(f"(os error {code})" in str(error) for code in codes)


def show_bytes(count: int) -> str:
    """`1.5 GB`, `270 MB`, `12 kB`."""
    for unit, size in (("GB", 10**9), ("MB", 10**6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1000:.0f} kB"


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free
