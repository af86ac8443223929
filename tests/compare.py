"""Whether two model folders hold the same weights, bit for bit."""

from __future__ import annotations

from pathlib import Path


def same_tensors(left: Path, right: Path) -> bool:
    """Whether two folders' safetensors files hold the same names and bits."""
    import torch
    from safetensors.torch import load_file

    def read(folder: Path) -> dict[str, torch.Tensor]:
        return {k: v for path in sorted(folder.glob("*.safetensors")) for k, v in load_file(path).items()}

    a, b = read(left), read(right)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
