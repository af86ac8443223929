"""QLoRA on the CPU: the adapter learns, the quantised base stays, the export is the whole model."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("bitsandbytes")

from autoalign.errors import ConfigError  # noqa: E402
from autoalign.training.model import load_model  # noqa: E402
from tests.sft_runs import Runner, read_weights  # noqa: E402
from tests.tiny import save_tiny_model, write_conversations  # noqa: E402

pytestmark = pytest.mark.slow

LAYER = "model.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def sft(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    folder = tmp_path_factory.mktemp("quantized")
    return Runner(
        save_tiny_model(folder / "m", hidden=64), write_conversations(folder / "rows.jsonl"), folder
    )


def test_nf4_is_within_half_a_step_of_the_weights(sft: Runner):
    """NF4's widest gap, between -1 and -0.6962, bounds the error by 0.152 of a block's largest number."""
    from bitsandbytes.functional import dequantize_4bit

    model = load_model(sft.config(use_lora=True, load_in_4bit=True), str(sft.model))
    layer = model.get_submodule(f"base_model.model.{LAYER}").base_layer
    assert (layer.weight.quant_type, layer.weight.dtype) == ("nf4", torch.uint8)
    assert layer.weight.quant_state.nested
    held = dequantize_4bit(layer.weight, layer.weight.quant_state).reshape(-1, 64)
    blocks = read_weights(sft.model)[f"{LAYER}.weight"].reshape(-1, 64)
    bound = 0.152 * blocks.abs().amax(1, keepdim=True)
    # The scales are rounded to 8 bits themselves.
    assert ((held - blocks).abs() <= bound + 0.02 * blocks.abs().max()).all()


@pytest.mark.parametrize("bits", ["load_in_4bit", "load_in_8bit"])
def test_the_adapter_alone_learns(sft: Runner, bits: str):
    every_row = {"per_device_train_batch_size": 24, "max_steps": 8, "learning_rate": 2e-3}
    run = sft(**{bits: True}, use_lora=True, gradient_checkpointing=True, **every_row)
    losses = run.column("loss")
    assert losses[-1] < losses[0] - 0.02
    assert losses == pytest.approx(sft(use_lora=True, **every_row).column("loss"), abs=0.02)
    base, merged = read_weights(sft.model), run.weights
    adapter = read_weights(run.folder / "adapter")
    up, down = (adapter[f"base_model.model.{LAYER}.lora_{side}.weight"] for side in "BA")
    # alpha 32 / rank 16 = 2; the base is the unquantised one.
    torch.testing.assert_close(merged[f"{LAYER}.weight"], base[f"{LAYER}.weight"] + 2 * up @ down)
    assert torch.equal(merged["model.norm.weight"], base["model.norm.weight"])


def test_norms_multiply_in_float32_and_hand_on_bfloat16(sft: Runner):
    model = load_model(sft.config(use_lora=True, load_in_4bit=True, bf16=True), str(sft.model))
    norm = model.get_submodule("base_model.model.model.norm")
    assert norm.weight.dtype == torch.float32
    assert norm(torch.ones(1, 2, 64, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert {p.dtype for n, p in model.named_parameters() if p.requires_grad} == {torch.float32}


def test_a_quantised_job_goes_on_where_it_stopped(sft: Runner):
    options = {"use_lora": True, "load_in_4bit": True, "save_steps": 2, "max_steps": 4}
    whole = sft.fresh(**options)
    assert whole.checkpoints == ["checkpoint-2"]
    resumed = sft.fresh(**options, resume=str(whole.folder / "checkpoint-2"))
    for name, weight in whole.weights.items():
        assert torch.equal(weight, resumed.weights[name]), name


@pytest.mark.skipif(torch.cuda.is_available(), reason="the CPU's kernel alone is wrong there")
def test_layers_that_the_cpu_kernel_would_misread_are_refused(sft: Runner, tmp_path: Path):
    narrow = save_tiny_model(tmp_path / "narrow", hidden=32)
    with pytest.raises(ConfigError, match="takes 32 numbers"):
        load_model(sft.config(use_lora=True, load_in_4bit=True), str(narrow))


def test_zero2_trains_it_too(sft: Runner):
    options = {"use_lora": True, "load_in_4bit": True, "adam_epsilon": 1e-2}
    plain, zero = sft(**options), sft(**options, deepspeed="zero2")
    assert zero.column("loss") == pytest.approx(plain.column("loss"), abs=1e-4)
