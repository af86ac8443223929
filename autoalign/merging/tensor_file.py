"""Reading stretches of tensors out of safetensors files, without mapping the files into memory.

Format: https://huggingface.co/docs/safetensors: 8 bytes of header length, a JSON header with
`dtype`, `shape` and `data_offsets` for each name, then the data.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from autoalign.errors import ModelError

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class TensorSpec(NamedTuple):
    """What a tensor is like."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes in a file."""
        return self.size * self.dtype.itemsize


@dataclass(frozen=True)
class TensorFile:
    """A safetensors file. `specs` and `offsets` (bytes from the file's start) go by tensor name."""

    path: Path
    specs: dict[str, TensorSpec]
    offsets: dict[str, int]

    def read(self, name: str, start: int, stop: int) -> Tensor:
        """Elements `start` to `stop` of the flat tensor, (stop - start,), in the file's type."""
        spec = self.specs[name]
        values = torch.empty(stop - start, dtype=spec.dtype)
        with self.path.open("rb") as file:
            file.seek(self.offsets[name] + start * spec.dtype.itemsize)
            count = file.readinto(values.view(torch.uint8).numpy().data)
        if count != values.nbytes:
            raise ModelError(f"{self.path}: ends inside tensor {name}; fetch or copy the file again")
        return values


def open_tensors(path: Path) -> TensorFile:
    """Read a file's header, after the safetensors library has checked the file.

    Raises:
        ModelError: it is damaged, or holds a tensor of a type that can't be merged.
    """
    try:
        with safe_open(path, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: can't be read as safetensors: {error}") from None
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    specs, offsets = {}, {}
    # In the order of the file, so that the disk is read from front to back.
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        if entry["dtype"] not in DTYPES:
            raise ModelError(
                f"{path}: tensor {name} is {entry['dtype']}, which can't be merged; give the weights "
                "that it was quantised from"
            )
        specs[name] = TensorSpec(DTYPES[entry["dtype"]], tuple(entry["shape"]))
        offsets[name] = 8 + length + entry["data_offsets"][0]
    return TensorFile(path, specs, offsets)
