"""The group of processes that train together, and the few collectives the loop needs."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist


@dataclass(frozen=True, slots=True)
class World:
    """This process's place: `rank` of `size`, and the device it computes on."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Rank 0 writes files and reports."""
        return self.rank == 0

    def sum(self, *values: float) -> list[float]:
        """Each value summed over all ranks (float64)."""
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return [float(value) for value in tensor.tolist()]

    def any(self, flag: bool) -> bool:
        """Whether any rank's flag is set."""
        return self.sum(float(flag))[0] > 0

    def share(self, content: bytes) -> bytes:
        """Rank 0's content, on every rank."""
        if self.size == 1:
            return content
        (length,) = self.sum(float(len(content)) if self.is_main else 0.0)
        held = bytearray(content) if self.is_main else bytearray(int(length))
        if not length:
            return b""
        shared = torch.frombuffer(held, dtype=torch.uint8).to(self.device)
        dist.broadcast(shared, src=0)
        return shared.cpu().numpy().tobytes()

    def barrier(self) -> None:
        """Wait for all ranks."""
        self.sum(0.0)


def device_of(use_gpu: bool, local_rank: int) -> torch.device:
    """This rank's GPU (made the current one), or the CPU."""
    if not use_gpu:
        # transformers imports DeepSpeed when it saves, which then looks for a GPU, and complains.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
        return torch.device("cpu")
    device = torch.device("cuda", local_rank if torch.cuda.device_count() > 1 else 0)
    torch.cuda.set_device(device)
    return device


def join_from_environment(needs_group: bool, use_gpu: bool, timeout: float = 1800.0) -> World:
    """The world that torchrun or Ray Train describes in the environment; alone without one.

    Args:
        needs_group: make a process group even for one process (DeepSpeed wants it).
        use_gpu: NCCL and this rank's GPU, instead of gloo and the CPU.
        timeout: seconds that a collective may take.
    """
    rank = int(os.environ.get("RANK", "0"))
    size = int(os.environ.get("WORLD_SIZE", "1"))
    device = device_of(use_gpu, int(os.environ.get("LOCAL_RANK", "0")))
    if (size > 1 or needs_group) and not dist.is_initialized():
        _init_group(rank, size, "nccl" if use_gpu else "gloo", timedelta(seconds=timeout))
    return World(rank, size, device)


def _init_group(rank: int, size: int, backend: str, timeout: timedelta) -> None:
    if "MASTER_ADDR" in os.environ:
        dist.init_process_group(backend, rank=rank, world_size=size, timeout=timeout)
        return
    # DeepSpeed reads its place from the environment too.
    os.environ["LOCAL_RANK"] = "0"
    store = dist.HashStore()  # type: ignore[attr-defined]
    dist.init_process_group(backend, store=store, rank=0, world_size=1, timeout=timeout)


def leave() -> None:
    """Close the process group, if there is one."""
    # DeepSpeed keeps references to the group; its own call drops them, so that a second job can run here.
    comm = sys.modules.get("deepspeed.comm")
    if comm is not None and comm.is_initialized():
        comm.destroy_process_group()
    if dist.is_initialized():
        dist.destroy_process_group()
    if "MASTER_ADDR" not in os.environ:
        os.environ.pop("LOCAL_RANK", None)
    _restore_linear()


def _restore_linear() -> None:
    """ZeRO-3 puts its own `F.linear` in place for good; it keeps inputs that frozen layers need not keep."""
    zero3 = sys.modules.get("deepspeed.runtime.zero.partition_parameters")
    original = getattr(getattr(zero3, "InsertPostInitMethodToModuleSubClasses", None), "linear_bk", None)
    if original is not None:
        torch.nn.functional.linear = original
