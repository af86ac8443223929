"""Many tensors in a few safetensors files, written one at a time and read lazily."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from torch import Tensor

from autoalign.training import watchdog

_SHARD_BYTES = 4 << 30


def copied(tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Each tensor as a copy of its own in the CPU's memory, made when it is asked for."""
    for key, tensor in tensors:
        yield key, tensor.detach().to("cpu", copy=True).contiguous()


def write_shards(folder: Path, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Write `tensors` as `folder/state-00001.safetensors`... and an index; one shard is held at a time.

    Args:
        tensors: contiguous, in the CPU's memory.
    """
    from safetensors.torch import save_file

    index: dict[str, str] = {}
    shard: dict[str, Tensor] = {}
    size = count = 0

    def flush() -> None:
        nonlocal shard, size, count
        count += 1
        name = f"state-{count:05d}.safetensors"
        save_file(shard, folder / name)
        watchdog.touch()
        index.update(dict.fromkeys(shard, name))
        shard, size = {}, 0

    for key, tensor in tensors:
        shard[key] = tensor
        size += tensor.nbytes
        if size >= _SHARD_BYTES:
            flush()
    if shard:
        flush()
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")


class ShardReader(Mapping[str, Tensor]):
    """The tensors that `write_shards` wrote, each read when it is asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._index: dict[str, str] = json.loads((folder / "index.json").read_text(encoding="utf-8"))

    def __getitem__(self, key: str) -> Tensor:
        from safetensors import safe_open

        with safe_open(self._folder / self._index[key], framework="pt") as file:
            tensor: Tensor = file.get_tensor(key)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._index)

    def __len__(self) -> int:
        return len(self._index)
