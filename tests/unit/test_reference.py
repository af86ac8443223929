"""The reference's log-probs: what their cache's name depends on, and an adapter that does not drop out."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import numpy as np  # noqa: E402

import autoalign  # noqa: E402
from autoalign.config.dpo import DPOConfig  # noqa: E402
from autoalign.training import reference  # noqa: E402
from autoalign.training.batches import collate  # noqa: E402
from autoalign.training.preference import AnswerLogps  # noqa: E402
from autoalign.training.task import TrainTask  # noqa: E402
from autoalign.training.tokens import TokenRow  # noqa: E402
from tests.tiny import save_tiny_model  # noqa: E402

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


def cache_path(model: Path, rows: str = "rows", device: Any = CPU, **values: Any) -> Path:
    config = DPOConfig(model_name_or_path="m", data_path=["d"], output_dir="o", bf16=False, **values)
    task = TrainTask(config, str(model), None, {})  # type: ignore[arg-type]
    wanted = reference.Wanted(rows, 1, lambda group: None)  # type: ignore[arg-type, return-value]
    return reference._path(task, wanted, device)


@pytest.mark.parametrize(
    "otherwise",
    [
        {"rows": "other rows"},
        {"device": GPU},
        {"padding_free": False},
        {"attn_implementation": "eager"},
        {"share_prompts": False},
        {"torch_compile": True},
    ],
    ids=str,
)
def test_the_caches_name_tells_what_the_numbers_depend_on(tiny: Path, otherwise: dict[str, Any]):
    assert cache_path(tiny, **otherwise) != cache_path(tiny) == cache_path(tiny, learning_rate=0.1)


def test_another_release_of_transformers_is_another_name(tiny: Path, monkeypatch: pytest.MonkeyPatch):
    before = cache_path(tiny)
    monkeypatch.setattr(reference, "version", lambda package: f"{package} 0.1")
    assert cache_path(tiny) != before


@pytest.mark.parametrize(
    "name",
    [
        "kernels/kernels.c",
        "losses/cross_entropy.py",
        "training/acceleration/flex.py",
        "training/acceleration/varlen.py",
        "training/batches.py",
    ],
)
def test_a_changed_kernel_is_another_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = Path(autoalign.__file__).parent
    for path in reference._COMPUTED_BY:
        copy = tmp_path / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((package / path).read_bytes())
    before = reference._code_digest()
    monkeypatch.setattr(reference, "autoalign", SimpleNamespace(__file__=str(tmp_path / "__init__.py")))
    assert reference._code_digest() == before
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes() + b"\n")
    assert reference._code_digest() != before


def test_an_adapter_that_is_off_drops_nothing_out():
    from peft import LoraConfig, get_peft_model
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    sizes = GPT2Config(vocab_size=50, n_positions=32, n_embd=16, n_layer=2, n_head=2)
    assert (sizes.resid_pdrop, sizes.embd_pdrop, sizes.attn_pdrop) == (0.1, 0.1, 0.1)
    base = GPT2LMHeadModel(sizes)
    row = TokenRow(np.arange(3, 15, dtype=np.int32), np.arange(12) > 4)
    batch = collate([row], padding_free=False)
    with torch.no_grad():
        expected = AnswerLogps(base.eval())(batch)
        model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", target_modules=["c_attn"])).train()
        model.base_model.model.transformer.ln_f.eval()
        modes = [module.training for module in model.modules()]
        policy = AnswerLogps(model)
        with reference.adapter_off(model, frozen=None):
            once, twice = policy(batch), policy(batch)
        assert not torch.equal(policy(batch), policy(batch))  # the policy itself drops out
    torch.testing.assert_close(once, expected, atol=0, rtol=0)
    assert torch.equal(once, twice)
    assert [module.training for module in model.modules()] == modes
