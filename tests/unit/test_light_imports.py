import subprocess
import sys

import pytest
import torch

from autoalign.training.light_imports import save_without_deepspeed, without


def test_an_import_fails_in_the_block_alone():
    sys.modules.pop("colorsys", None)
    with without("colorsys"), pytest.raises(ImportError):
        import colorsys
    import colorsys

    with without("colorsys"):
        assert sys.modules["colorsys"] is colorsys


_LOOKS = """
import sys
from autoalign.training.light_imports import leave_triton_out
leave_triton_out()
import torch._dynamo
from torch.utils import _triton
assert not _triton.has_triton_package()
assert "triton" not in sys.modules, "loaded"
"""


@pytest.mark.skipif(torch.version.cuda is not None, reason="this PyTorch can use Triton")
def test_pytorch_for_cpus_does_not_load_triton():
    subprocess.run([sys.executable, "-c", _LOOKS], check=True, timeout=120)


def test_a_model_is_wrapped_by_deepspeed_only_where_that_is_loaded(monkeypatch):
    other = pytest.importorskip("accelerate.utils.other")
    monkeypatch.setattr(other, "is_deepspeed_available", lambda: True)
    save_without_deepspeed()
    monkeypatch.setitem(sys.modules, "deepspeed", sys)
    assert other.is_deepspeed_available()
    monkeypatch.delitem(sys.modules, "deepspeed")
    assert not other.is_deepspeed_available()
