"""What a GPU alone can show: kernels and offloading give the loss and gradients of the plain path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from autoalign.config.sft import SFTConfig  # noqa: E402
from autoalign.training.acceleration import flex, offload, varlen  # noqa: E402
from autoalign.training.attention import attend_rows  # noqa: E402
from autoalign.training.batches import collate  # noqa: E402
from autoalign.training.tokens import TokenRow  # noqa: E402
from tests.rank_group import module_of  # noqa: E402
from tests.sft_runs import Runner  # noqa: E402
from tests.tiny import save_tiny_model, write_conversations  # noqa: E402

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine"),
]
LENGTHS = (130, 7, 1, 62, 300)


def config_of(model: Path, **values: Any) -> SFTConfig:
    return SFTConfig(model_name_or_path=str(model), data_path=["d"], output_dir="o", **values)


def batch_of(*lengths: int) -> Any:
    generator = torch.Generator().manual_seed(0)
    rows = [
        TokenRow(torch.randint(200, (n,), generator=generator).numpy(), (torch.arange(n) > n // 2).numpy())
        for n in lengths
    ]
    return collate(rows, padding_free=True).to(torch.device("cuda"))


def loss_and_gradients(config: SFTConfig) -> tuple[Any, dict[str, Any]]:
    module = module_of(config).to("cuda")
    with offload.kept_activations(config, module, torch.device("cuda"))():
        loss = module(batch_of(*LENGTHS))
    loss.backward()
    return loss.detach(), {name: p.grad.float() for name, p in module.named_parameters()}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("gpu") / "model", hidden=128)


def attention(attend: Any, heads: tuple[Any, ...], **options: Any) -> tuple[Any, ...]:
    """The output and the gradients of its square's sum."""
    inputs = [tensor.clone().requires_grad_() for tensor in heads]
    output, _ = attend(torch.nn.Module(), *inputs, None, row_lengths=LENGTHS, **options)
    output.float().square().sum().backward()
    return output.detach(), *(tensor.grad for tensor in inputs)


@pytest.mark.parametrize("window", [None, 20])
@pytest.mark.parametrize("kernel", ["flex", "flash"])
def test_attention_kernels_see_what_rows_do(kernel: str, window: int | None):
    if kernel == "flash":
        pytest.importorskip("flash_attn")
    torch.manual_seed(0)
    tokens = sum(LENGTHS)
    heads = tuple(torch.randn(1, n, tokens, 64, device="cuda", dtype=torch.bfloat16) for n in (4, 2, 2))
    attend = flex.attend_flex if kernel == "flex" else varlen.attend_varlen
    found, expected = (attention(f, heads, sliding_window=window) for f in (attend, attend_rows))
    for left, right in zip(found, expected, strict=True):
        torch.testing.assert_close(left, right, atol=5e-2, rtol=5e-2)


@pytest.mark.parametrize(
    "choice",
    [
        {"activation_offload": True},
        {"activation_offload": True, "gradient_checkpointing": True},
        {"gradient_checkpointing": True, "gradient_checkpointing_every": 2},
        {"torch_compile": True},
        {"use_liger_kernel": True},
        {"attn_implementation": "flex_attention"},
    ],
    ids=lambda choice: "+".join(choice),
)
def test_a_choice_changes_no_loss_and_no_gradient(model: Path, choice: dict[str, Any]):
    if "use_liger_kernel" in choice:
        pytest.importorskip("liger_kernel")
    plain = {"bf16": False, "attn_implementation": "rows"}
    expected = loss_and_gradients(config_of(model, **plain))
    found = loss_and_gradients(config_of(model, **{**plain, **choice}))
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    "flags",
    [
        {"deepspeed": "zero2", "offload_optimizer": "cpu"},
        {"deepspeed": "zero3", "offload_optimizer": "cpu", "offload_param": "cpu"},
        {"use_lora": True, "load_in_4bit": True},
        {"use_lora": True, "load_in_8bit": True},
    ],
    ids=lambda flags: "+".join(flags),
)
def test_offloaded_and_quantised_jobs_follow_the_plain_one(
    model: Path, tmp_path: Path, flags: dict[str, Any]
):
    sft = Runner(model, write_conversations(tmp_path / "rows.jsonl"), tmp_path)
    shared = {"bf16": True, "adam_epsilon": 1e-3, "use_lora": flags.get("use_lora", False)}
    losses = sft(**{**shared, **flags}).column("loss")
    assert losses == pytest.approx(sft(**shared).column("loss"), abs=0.05)
