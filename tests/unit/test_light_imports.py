import sys

import pytest

from autoalign.training.light_imports import save_without_deepspeed, without


def test_an_import_fails_in_the_block_alone():
    sys.modules.pop("colorsys", None)
    with without("colorsys"), pytest.raises(ImportError):
        import colorsys
    import colorsys

    with without("colorsys"):
        assert sys.modules["colorsys"] is colorsys


def test_a_model_is_wrapped_by_deepspeed_only_where_that_is_loaded(monkeypatch):
    other = pytest.importorskip("accelerate.utils.other")
    monkeypatch.setattr(other, "is_deepspeed_available", lambda: True)
    save_without_deepspeed()
    monkeypatch.setitem(sys.modules, "deepspeed", sys)
    assert other.is_deepspeed_available()
    monkeypatch.delitem(sys.modules, "deepspeed")
    assert not other.is_deepspeed_available()
