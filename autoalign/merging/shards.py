"""Writing safetensors files as their contents come: the header is known before the data.

Format: https://huggingface.co/docs/safetensors.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from autoalign.manifest import write_json
from autoalign.merging.tensor_file import DTYPES, TensorSpec

INDEX_NAME = "model.safetensors.index.json"
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Shard:
    """One weight file and the tensors in it, in their order."""

    name: str
    specs: Mapping[str, TensorSpec]


def plan(specs: Mapping[str, TensorSpec], max_bytes: int) -> list[Shard]:
    """Tensors spread over files of at most `max_bytes` (a larger tensor gets its own)."""
    groups: list[dict[str, TensorSpec]] = [{}]
    room = max_bytes
    for name, spec in specs.items():
        if groups[-1] and spec.bytes > room:
            groups.append({})
            room = max_bytes
        groups[-1][name] = spec
        room -= spec.bytes
    if len(groups) == 1:
        return [Shard("model.safetensors", _aligned(groups[0]))]
    return [
        Shard(f"model-{number:05d}-of-{len(groups):05d}.safetensors", _aligned(group))
        for number, group in enumerate(groups, 1)
    ]


def write_index(folder: Path, shards: list[Shard]) -> None:
    """`model.safetensors.index.json`, where there is more than one file."""
    if len(shards) < 2:
        return
    total = sum(spec.bytes for shard in shards for spec in shard.specs.values())
    places = {name: shard.name for shard in shards for name in shard.specs}
    write_json(
        folder / INDEX_NAME, {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
    )


def write_shard(folder: Path, shard: Shard, pieces: Iterator[Tensor]) -> None:
    """Write the header, then `pieces` (flat, in the order and types of the shard's tensors)."""
    with (folder / shard.name).open("wb") as file:
        _write_header(file, shard.specs)
        for piece in pieces:
            file.write(piece.contiguous().view(torch.uint8).numpy().data)


def _write_header(file: BinaryIO, specs: Mapping[str, TensorSpec]) -> None:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, spec in specs.items():
        end = offset + spec.bytes
        entries[name] = {
            "dtype": _NAMES[spec.dtype],
            "shape": list(spec.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    file.write(struct.pack("<Q", len(header)) + header)


def _aligned(specs: Mapping[str, TensorSpec]) -> dict[str, TensorSpec]:
    """Wider types first, so that each tensor begins at a multiple of its element's size."""
    return dict(sorted(specs.items(), key=lambda item: -item[1].dtype.itemsize))
