"""Each step and rank draws from a stream of its own, whatever the seed."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from autoalign.training.loop import dropout_seed  # noqa: E402


def test_a_small_seed_keeps_its_streams():
    # (42 * 1,000,003 + 7) * 65,537 + 3: 42,000,133 * 65,536 + 42,000,133 + 3
    assert dropout_seed(42, step=7, rank=3) == 2_752_520_716_288 + 42_000_133 + 3


def test_a_large_seed_fits_what_pytorch_takes():
    seed = 2**31 - 1
    # 2,147,483,647 * 65,537,196,611 is 7.6 times 2**64.
    assert dropout_seed(seed, step=0, rank=0) == seed * 65_537_196_611 - 7 * 2**64
    torch.manual_seed(dropout_seed(seed, step=0, rank=0))
    torch.manual_seed(dropout_seed(2**64, step=10**6, rank=9999))
