"""Ranks that share rows compute what one process does: losses, gradients, and whole jobs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from autoalign.config.dpo import DPOConfig  # noqa: E402
from autoalign.config.sft import SFTConfig  # noqa: E402
from autoalign.errors import ConfigError  # noqa: E402
from autoalign.training.batches import Batch, collate  # noqa: E402
from autoalign.training.model import load_model  # noqa: E402
from autoalign.training.tokens import TokenRow  # noqa: E402
from tests.rank_group import losses_and_gradients, module_of, together, train  # noqa: E402
from tests.sft_runs import Runner, distance, read_weights  # noqa: E402
from tests.tiny import save_tiny_model, write_conversations  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def six_heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six query heads on two key heads: three ranks have two and two thirds each."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("six") / "model"
    torch.manual_seed(0)
    shape = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2}
    config = LlamaConfig(vocab_size=96, num_attention_heads=6, num_key_value_heads=2, **shape)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def batch_of(*lengths: int) -> Batch:
    """Random rows whose later half is supervised; 3 ranks can't share their sum evenly."""
    generator = torch.Generator().manual_seed(sum(lengths))
    rows = [
        TokenRow(
            torch.randint(96, (length,), generator=generator).int().numpy(),
            (torch.arange(length) >= length // 2).numpy(),
        )
        for length in lengths
    ]
    return collate(rows, padding_free=True)


def expected(config: SFTConfig | DPOConfig, batch: Batch) -> dict[str, Any]:
    """The same on one process."""
    module = module_of(config.model_copy(update={"sequence_parallel_size": 1}))
    loss = module(batch)
    loss.backward()
    return {"loss": loss.detach(), **{name: w.grad for name, w in module.model.named_parameters()}}


def test_three_ranks_share_rows(six_heads: Path, tmp_path: Path):
    common = {"model_name_or_path": str(six_heads), "data_path": ["unused"], "output_dir": "unused"}
    options: dict[str, Any] = {"bf16": False, "launcher": "local", "sequence_parallel_size": 3}
    sft = SFTConfig(**common, **options, gradient_checkpointing=True)
    dpo = DPOConfig(**common, **options, beta=0.5)
    answered = {"ref_logps": torch.tensor([-30.0, -9.0, -15.0, -40.0])}
    cases: dict[str, tuple[Any, Batch]] = {
        "a row over all ranks": (sft, batch_of(40)),
        "several": (sft, batch_of(17, 5, 9, 20)),
        "fewer tokens than ranks": (sft, batch_of(2)),
        "pairs": (dpo, replace(batch_of(17, 5, 9, 20), **answered)),
    }
    together(3, losses_and_gradients, cases, tmp_path / "found.pt")
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    for name, case in cases.items():
        torch.testing.assert_close(found[name], expected(*case), atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def sft(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    folder = tmp_path_factory.mktemp("shared")
    return Runner(save_tiny_model(folder / "m"), write_conversations(folder / "rows.jsonl"), folder)


@pytest.mark.parametrize(("ranks", "deepspeed"), [(4, "none"), (2, "zero2")])
def test_pairs_of_ranks_train_as_one_process_does(sft: Runner, ranks: int, deepspeed: str):
    """Four ranks are two replicas of two; two are one."""
    # AdamW divides a gradient of nearly nothing by its own size: a large epsilon keeps rounding small.
    alone = sft(per_device_train_batch_size=8, adam_epsilon=1e-2)
    shared = sft.config(
        per_device_train_batch_size=8 // (ranks // 2),
        adam_epsilon=1e-2,
        sequence_parallel_size=2,
        deepspeed=deepspeed,
    )
    together(ranks, train, shared)
    assert distance(alone.weights, read_weights(Path(shared.output_dir))) < 1e-5


def test_ranks_that_do_not_divide_the_heads_are_refused(six_heads: Path):
    config = SFTConfig(
        model_name_or_path=str(six_heads), data_path=["d"], output_dir="o", num_workers=4,
        sequence_parallel_size=4,
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"4 does not divide the model's 6 attention heads; 2, 3, 6 would"):
        load_model(config, str(six_heads))
