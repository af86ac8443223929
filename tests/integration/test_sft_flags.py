"""Every flag of `sft` that decides the weights does what its help says; the same training is written out."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from autoalign.training.model import load_model  # noqa: E402
from tests.sft_runs import Runner, distance, labelled_batch, read_weights, reference_training  # noqa: E402
from tests.tiny import save_tiny_model, write_conversations  # noqa: E402

pytestmark = pytest.mark.slow

ALL_ROWS = {"per_device_train_batch_size": 24}
"""One step sees all rows, so that their order doesn't matter."""


@pytest.fixture(scope="module")
def sft(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    folder = tmp_path_factory.mktemp("flags")
    model = save_tiny_model(folder / "model")
    return Runner(model, write_conversations(folder / "rows.jsonl"), folder)


@pytest.fixture(scope="module")
def batch(sft: Runner) -> dict[str, Any]:
    return labelled_batch(sft(**ALL_ROWS).folder, sft.data)


# Steps and learning rate


def test_num_train_epochs(sft: Runner):
    run = sft(max_steps=-1, num_train_epochs=1.5)
    assert run.column("step") == list(range(1, 10))  # 24 rows in batches of 4, one and a half times
    assert run.column("epoch")[5] == 1.0
    assert run.column("epoch")[-1] == 1.5


def test_max_steps_goes_over_num_train_epochs(sft: Runner):
    assert sft(max_steps=2, num_train_epochs=50).column("step") == [1, 2]


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant"])
@pytest.mark.parametrize("warmup", [{"warmup_steps": 3}, {"warmup_ratio": 0.5}, {"warmup_ratio": 0.0}])
def test_learning_rate_schedule_and_warmup(sft: Runner, kind: str, warmup: dict[str, Any]):
    from transformers import get_scheduler

    run = sft(max_steps=8, learning_rate=4e-4, lr_scheduler_type=kind, **warmup)
    steps = warmup.get("warmup_steps") or int(8 * warmup["warmup_ratio"])
    name = "constant_with_warmup" if kind == "constant" else kind
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=4e-4)
    scheduler = get_scheduler(name, optimizer, num_warmup_steps=steps, num_training_steps=8)
    expected = []
    for _ in range(8):
        expected += scheduler.get_last_lr()
        optimizer.step()
        scheduler.step()
    assert run.column("lr") == pytest.approx(expected)


# The optimizer


@pytest.mark.parametrize(
    ("flags", "adamw"),
    [
        ({}, {}),
        ({"learning_rate": 3e-3}, {"lr": 3e-3}),
        ({"weight_decay": 5.0}, {"weight_decay": 5.0}),
        ({"adam_beta1": 0.5}, {"betas": (0.5, 0.999)}),
        ({"adam_beta2": 0.9}, {"betas": (0.9, 0.9)}),
        ({"adam_epsilon": 1e-2}, {"eps": 1e-2}),
        ({"max_grad_norm": 0.01, "adam_epsilon": 1e-2}, {"max_grad_norm": 0.01, "eps": 1e-2}),
        ({"max_grad_norm": 0.0, "adam_epsilon": 1e-2}, {"max_grad_norm": 0.0, "eps": 1e-2}),
    ],
    ids=lambda flags: "-".join(flags),
)
def test_optimizer_flags(sft: Runner, batch: dict[str, Any], flags: dict[str, Any], adamw: dict[str, Any]):
    """Three steps equal AdamW's on the same rows with the same setting, and other settings differ."""
    run = sft(**ALL_ROWS, **flags)
    losses, norms, weights = reference_training(sft.model, batch, 3, **adamw)
    assert run.column("loss") == pytest.approx(losses, abs=1e-5)
    assert run.column("grad_norm") == pytest.approx(norms, rel=1e-4)
    assert distance(run.weights, weights) < 1e-5
    if flags:
        assert distance(run.weights, sft(**ALL_ROWS).weights) > 5e-5


def test_weight_decay_leaves_norms_alone(sft: Runner):
    """Decoupled decay takes lr * decay of a matrix a step, beside Adam's own step; norms keep all."""
    run, plain = sft(max_steps=1, weight_decay=5.0), sft(max_steps=1)
    before = read_weights(sft.model)
    for name, weight in run.weights.items():
        shrunk = before[name] * (1e-3 * 5.0 if weight.ndim > 1 else 0.0)
        torch.testing.assert_close(plain.weights[name] - weight, shrunk, atol=1e-6, rtol=1e-4)


# Batches


def test_gradient_accumulation_is_one_bigger_batch(sft: Runner):
    big = sft(per_device_train_batch_size=8)
    small = sft(per_device_train_batch_size=2, gradient_accumulation_steps=4)
    assert small.column("tokens") == big.column("tokens")
    assert small.column("loss") == pytest.approx(big.column("loss"), abs=1e-5)
    assert distance(small.weights, big.weights) < 1e-5


def test_batch_size_is_rows_a_step(sft: Runner):
    assert sft(per_device_train_batch_size=6, max_steps=-1, num_train_epochs=1).column("step") == [1, 2, 3, 4]


def test_seed(sft: Runner):
    first, again, other = sft(), sft.fresh(), sft(seed=7)
    assert distance(first.weights, again.weights) == 0.0
    assert first.column("loss") == again.column("loss")
    assert first.column("tokens") != other.column("tokens")  # other rows met


def test_group_by_length(sft: Runner):
    """Sorted by length and cut in fours: each step's tokens are a cut's sum, in some order."""
    lengths = labelled_batch(sft(**ALL_ROWS).folder, sft.data)["attention_mask"].sum(1).sort().values
    sums = sorted(lengths.reshape(6, 4).sum(1).tolist())

    def tokens_a_step(grouped: bool) -> list[int]:
        run = sft(group_by_length=grouped, max_steps=-1, num_train_epochs=1)
        total = [0, *run.column("tokens")]
        return sorted(b - a for a, b in pairwise(total))

    assert tokens_a_step(True) == sums
    assert tokens_a_step(False) != sums


def test_packing_fills_bins_with_whole_rows(sft: Runner):
    shape = {"per_device_train_batch_size": 1, "max_steps": -1, "num_train_epochs": 1}
    plain, packed = sft(**shape), sft(**shape, packing=True, model_max_length=256)
    tokens = plain.column("tokens")[-1]
    assert packed.column("tokens")[-1] == tokens
    assert plain.report.steps == 24
    assert -(-tokens // 256) <= packed.report.steps <= 1 + -(-tokens // 256)


@pytest.mark.parametrize(
    "layout",
    [
        {"packing": True, "model_max_length": 256},
        {"padding_free": False},
        {"attn_implementation": "rows"},
        {"attn_implementation": "sdpa"},
        {"attn_implementation": "eager"},
        {"padding_free": False, "attn_implementation": "eager"},
    ],
    ids=repr,
)
def test_a_layout_does_not_change_what_is_learnt(sft: Runner, batch: dict[str, Any], layout: dict[str, Any]):
    run = sft(**ALL_ROWS, **layout)
    losses, _, weights = reference_training(sft.model, batch, 3)
    assert run.column("loss") == pytest.approx(losses, abs=1e-5)
    assert distance(run.weights, weights) < 1e-5


@pytest.mark.parametrize(
    ("flags", "kernel"),
    [
        ({}, "autoalign_rows"),
        ({"padding_free": False}, "sdpa"),
        ({"attn_implementation": "sdpa"}, "sdpa"),
        ({"attn_implementation": "eager"}, "eager"),
    ],
)
def test_attn_implementation_names_the_kernel(sft: Runner, flags: dict[str, Any], kernel: str):
    model = load_model(sft.config(**flags), str(sft.model))
    assert model.config._attn_implementation == kernel


# Precision and memory


@pytest.mark.parametrize(("bf16", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_bf16_is_the_type_of_the_model_and_not_of_the_master_weights(sft: Runner, bf16: bool, dtype: Any):
    run = sft(bf16=bf16, save_steps=1, max_steps=2)
    assert {weight.dtype for weight in run.weights.values()} == {dtype}
    assert json.loads((run.folder / "config.json").read_text())["dtype"] == str(dtype).removeprefix("torch.")
    state = read_weights(run.folder / "checkpoint-1" / "trainer")
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}


def test_gradient_checkpointing_gives_the_same_weights(sft: Runner):
    assert distance(sft(gradient_checkpointing=True).weights, sft().weights) < 1e-6


@pytest.mark.parametrize("lora", [False, True])
def test_gradient_checkpointing_computes_activations_twice(sft: Runner, lora: bool):
    def calls(**values: Any) -> int:
        model = load_model(sft.config(use_lora=lora, **values), str(sft.model))
        layer = next(module for name, module in model.named_modules() if name.endswith("layers.0.mlp"))
        seen: list[None] = []
        layer.register_forward_pre_hook(lambda *_: seen.append(None))
        ids = torch.arange(8)[None]
        model(input_ids=ids, position_ids=ids, row_lengths=(8,), use_cache=False).logits.sum().backward()
        return len(seen)

    assert (calls(), calls(gradient_checkpointing=True)) == (1, 2)


# LoRA


def test_lora_shapes_and_targets(sft: Runner):
    run = sft(use_lora=True, lora_rank=3, lora_alpha=12, lora_target_modules=["q_proj", "v_proj"])
    shapes = {name: tuple(weight.shape) for name, weight in read_weights(run.folder / "adapter").items()}
    expected = {}
    for layer in (0, 1):
        for target, out in (("q_proj", 32), ("v_proj", 16)):
            prefix = f"base_model.model.model.layers.{layer}.self_attn.{target}"
            expected |= {f"{prefix}.lora_A.weight": (3, 32), f"{prefix}.lora_B.weight": (out, 3)}
    assert shapes == expected


def test_lora_merged_is_the_base_plus_the_scaled_product(sft: Runner):
    run = sft(use_lora=True, lora_rank=3, lora_alpha=12, lora_target_modules=["q_proj", "v_proj"])
    adapter, merged = read_weights(run.folder / "adapter"), run.weights
    for name, base in read_weights(sft.model).items():
        prefix = f"base_model.model.{name.removesuffix('.weight')}"
        if f"{prefix}.lora_A.weight" in adapter:
            product = adapter[f"{prefix}.lora_B.weight"] @ adapter[f"{prefix}.lora_A.weight"]
            assert product.abs().max() > 1e-4
            torch.testing.assert_close(merged[name], base + 12 / 3 * product)
        else:
            assert torch.equal(merged[name], base)


def test_lora_merged_answers_as_base_and_adapter_do(sft: Runner, batch: dict[str, Any]):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    run = sft(use_lora=True)
    base = AutoModelForCausalLM.from_pretrained(sft.model, dtype=torch.float32)
    apart = PeftModel.from_pretrained(base, run.folder / "adapter").eval()
    merged = AutoModelForCausalLM.from_pretrained(run.folder, dtype=torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(merged(**batch).logits, apart(**batch).logits, atol=1e-5, rtol=1e-4)


def test_lora_all_linear_leaves_out_the_output_layer(sft: Runner):
    names = read_weights(sft(use_lora=True).folder / "adapter")
    assert {name.split(".")[-3] for name in names} == {
        *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    }


def test_lora_dropout_acts_once_the_adapter_does(sft: Runner):
    """B starts at zero, so the first step's loss is the base's with any dropout; later ones differ."""
    plain, dropped = sft(use_lora=True), sft(use_lora=True, lora_dropout=0.9)
    assert dropped.column("loss")[0] == pytest.approx(plain.column("loss")[0], abs=1e-6)
    assert dropped.column("loss")[2] != pytest.approx(plain.column("loss")[2], abs=1e-6)


# Engines


@pytest.mark.parametrize("stage", ["zero0", "zero1", "zero2", "zero3"])
@pytest.mark.parametrize("lora", [False, True])
def test_deepspeed_stages_train_as_none_does(sft: Runner, stage: str, lora: bool):
    flags = {"gradient_accumulation_steps": 2, "max_grad_norm": 0.1, "weight_decay": 0.1, "use_lora": lora}
    plain, zero = sft(**flags), sft(**flags, deepspeed=stage)
    assert zero.column("loss") == pytest.approx(plain.column("loss"), abs=1e-4)
    assert zero.column("grad_norm") == pytest.approx(plain.column("grad_norm"), rel=1e-3)
    assert distance(zero.weights, plain.weights) < 1e-4


def test_a_deepspeed_file_trains_as_its_stage_does(sft: Runner, tmp_path: Path):
    path = tmp_path / "mine.json"
    content = {"zero_optimization": {"stage": 2}, "train_batch_size": "auto", "gradient_clipping": "auto"}
    path.write_text(json.dumps(content))
    run = sft(deepspeed=str(path))
    assert run.column("loss") == pytest.approx(sft().column("loss"), abs=1e-4)
    assert distance(run.weights, sft().weights) < 1e-4


def test_cpus_per_worker_is_the_number_of_threads(sft: Runner, monkeypatch: pytest.MonkeyPatch):
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", str(before))
    try:
        sft(cpus_per_worker=3, max_steps=1)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
