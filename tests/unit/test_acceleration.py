"""Choices of speed and memory: what is refused, what DeepSpeed is told, kernels against each other."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from autoalign.cli.flags import config_from_args  # noqa: E402
from autoalign.config.deepspeed import settings  # noqa: E402
from autoalign.config.rm import RMConfig  # noqa: E402
from autoalign.config.sft import SFTConfig  # noqa: E402
from autoalign.errors import ConfigError, MissingDependency  # noqa: E402
from autoalign.training.acceleration import flex, liger, offload, regions, ulysses, varlen  # noqa: E402
from autoalign.training.acceleration.attention_choice import attention_name  # noqa: E402
from autoalign.training.acceleration.sequence_parallel import replicas_of  # noqa: E402
from autoalign.training.attention import attend_rows  # noqa: E402
from autoalign.training.footprint import Architecture, MicroBatch, activation_bytes  # noqa: E402

NEEDED = ["--model_name_or_path", "m", "--data_path", "d", "--output_dir", "o"]
CPU = torch.device("cpu")


def parse(flags: str) -> SFTConfig:
    return config_from_args(SFTConfig, [*NEEDED, *flags.split()], "autoalign-cli sft")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--load_in_4bit true", "needs 'use_lora'"),
        ("--load_in_4bit true --load_in_8bit true --use_lora true", "choose one"),
        ("--load_in_8bit true --use_lora true --deepspeed zero3", "ZeRO-3 don't go together"),
        ("--gradient_checkpointing_every 2", "without 'gradient_checkpointing'"),
        ("--sequence_parallel_size 2 --num_workers 3", "2 does not divide 'num_workers' 3"),
        ("--sequence_parallel_size 2 --num_workers 2 --attn_implementation sdpa", "rows laid end to end"),
        ("--offload_optimizer cpu", "needs 'deepspeed' zero1 or zero2 or zero3, not none"),
        ("--offload_param cpu --deepspeed zero2", "needs 'deepspeed' zero3, not zero2"),
        ("--offload_optimizer nvme --deepspeed zero3", "'offload_path'"),
        ("--activation_offload true --deepspeed zero3", "needs 'gradient_checkpointing'"),
    ],
)
def test_choices_that_contradict_each_other_are_refused(flags: str, message: str):
    with pytest.raises(ConfigError, match=message):
        parse(flags)


def test_ranks_that_cannot_be_grouped_are_refused():
    with pytest.raises(ConfigError, match=r"2 does not divide the 3 process\(es\) of this job"):
        replicas_of(3, 2)


def test_a_reward_model_does_not_share_rows():
    with pytest.raises(ConfigError, match="is for sft and dpo, not for rm"):
        config_from_args(RMConfig, [*NEEDED, "--sequence_parallel_size", "2", "--num_workers", "2"], "rm")


def test_deepspeed_is_told_where_to_offload():
    flags = "--deepspeed zero3 --offload_optimizer nvme --offload_param cpu --offload_path /fast"
    zero = settings(parse(flags), world_size=1)["zero_optimization"]
    assert zero["offload_param"] == {"device": "cpu", "pin_memory": True}
    assert zero["offload_optimizer"] == {"device": "nvme", "pin_memory": True, "nvme_path": "/fast"}
    assert zero["stage"] == 3


@pytest.mark.parametrize("flags", ["--activation_offload true", "--offload_optimizer cpu --deepspeed zero2"])
def test_nothing_is_offloaded_from_a_cpu(flags: str):
    with pytest.raises(ConfigError, match="runs on the CPU, where there is nothing to offload"):
        offload.require_gpu(parse(flags), CPU)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_kernels_of_a_gpu_are_refused_without_one():
    with pytest.raises(ConfigError, match="--use_liger_kernel needs a GPU"):
        liger.apply(None)
    with pytest.raises(ConfigError, match="flex_attention needs a GPU"):
        attention_name(parse("--attn_implementation flex_attention"), padded=None)


def test_a_missing_compiler_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch):
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", ("no-such-compiler",))
    with pytest.raises(MissingDependency, match=r"needs a C\+\+ compiler: apt-get install g\+\+"):
        regions._require_compiler()


def random_heads(heads: int, kv_heads: int, tokens: int) -> tuple[Any, Any, Any]:
    generator = torch.Generator().manual_seed(tokens)
    return tuple(torch.randn(1, n, tokens, 16, generator=generator) for n in (heads, kv_heads, kv_heads))


@pytest.mark.parametrize("window", [None, 6])
@pytest.mark.parametrize("shared", [None, (0, 100, 0, 1)])
@torch.no_grad()
def test_flex_attention_sees_what_rows_do(shared: tuple[int, ...] | None, window: int | None):
    """Forward alone: on a CPU FlexAttention has no backward pass (tests/gpu has it)."""
    lengths = (130, 7, 1, 62)
    query, key, value = random_heads(4, 2, sum(lengths))
    options: dict[str, Any] = {
        "row_lengths": lengths,
        "shared_lengths": shared,
        "sliding_window": window,
    }
    module = torch.nn.Module().eval()
    rows, _ = attend_rows(module, query, key, value, None, **options)
    flexible, _ = flex.attend_flex(module, query, key, value, None, **options)
    torch.testing.assert_close(flexible, rows, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("heads", "kv_heads", "ranks"), [(9, 3, 3), (6, 2, 3), (8, 2, 4), (12, 4, 6), (4, 1, 2)]
)
def test_each_ranks_queries_find_their_own_keys(heads: int, kv_heads: int, ranks: int):
    """Of contiguous parts of the heads, query h looks at key h // (heads / kv_heads), as without ranks."""
    keys = torch.arange(kv_heads).reshape(1, kv_heads, 1, 1)
    parts = ulysses.repeat_heads(keys, ranks).flatten().chunk(ranks)
    per_rank = heads // ranks
    found = [int(part[h // (per_rank // len(part))]) for part in parts for h in range(per_rank)]
    assert found == [h // (heads // kv_heads) for h in range(heads)]


def test_row_edges_are_where_rows_begin():
    assert varlen.row_edges((3, 1, 5), CPU).tolist() == [0, 3, 4, 9]


def test_plan_counts_the_layers_that_are_recomputed():
    """Of 4 layers every other one is recomputed: two whole ones fewer than without, two inputs more."""
    sizes = Architecture(4, 64, 128, 4, 2, 16, 100)
    batch = MicroBatch(10, 5, (10,))

    def held(flags: str) -> int:
        return activation_bytes(sizes, parse(f"--bf16 false {flags}"), batch)

    whole, every = held(""), held("--gradient_checkpointing true")
    some = held("--gradient_checkpointing true --gradient_checkpointing_every 2")
    layer_input = 4 * 64 * 10
    layer = (whole - every + 4 * layer_input) // 3
    assert some == whole - 2 * layer + 2 * layer_input + layer
