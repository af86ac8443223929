"""The memory model against arithmetic, and how `plan` tells jobs apart."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autoalign.cli.main import main
from autoalign.cli.plan import _job_of
from autoalign.config.dpo import DPOConfig
from autoalign.config.sft import SFTConfig
from autoalign.errors import ConfigError, ModelError
from autoalign.training.footprint import (
    Architecture,
    Footprint,
    MicroBatch,
    activation_bytes,
    adapter_parameters,
    footprint,
    logit_bytes,
    read_architecture,
)
from autoalign.training.speed import on_gpus, token_flops

SIZES = Architecture(
    layers=3, hidden=64, intermediate=160, heads=8, kv_heads=2, head_dim=8, vocab=100
)  # q = 64, k = 16
SHAPES = {
    "model.embed_tokens.weight": (100, 64),
    "model.layers.0.self_attn.q_proj.weight": (64, 64),
    "model.layers.0.self_attn.k_proj.weight": (16, 64),
    "model.layers.0.mlp.down_proj.weight": (64, 160),
    "model.norm.weight": (64,),
}
WEIGHTS = 6400 + 4096 + 1024 + 10240 + 64


def config(**values: Any) -> SFTConfig:
    return SFTConfig(model_name_or_path="m", data_path=["d"], output_dir="o", launcher="ray", **values)


SMALL = MicroBatch(10, 5)


def memory(batch: MicroBatch = SMALL, workers: int = 1, **values: Any) -> Footprint:
    return footprint(config(**values), SHAPES, SIZES, batch, workers=workers, libraries=0)


NORMS = 2 * (2 * 64 + 4)
WIDE_NORMS = 2 * (4 * 64 + 4)
LORA = {"use_lora": True, "lora_rank": 4}


@pytest.mark.parametrize(
    ("values", "per_layer"),
    [
        # norms; q, k, v; gate and up; o's input
        ({}, NORMS + 2 * (64 + 32) + 2 * 320 + 2 * 64),
        # in float32 the attention's output and log-sum-exp too
        ({"bf16": False}, WIDE_NORMS + 4 * (128 + 32) + 32 + 4 * 320 + 4 * 64),
        # seven adapters: a float32 copy of each input, and rank numbers behind it
        (LORA, NORMS + 2 * (64 + 32) + 2 * 320 + 4 * (6 * 64 + 160) + 7 * 16),
        # the copy dropped out of, and the noise
        (
            {**LORA, "lora_dropout": 0.1},
            NORMS + 2 * (64 + 32) + 2 * 320 + 8 * (6 * 64 + 160) + 7 * 16,
        ),
        # float32 inputs are the model's own, and all but o's are made again
        ({**LORA, "bf16": False}, WIDE_NORMS + 4 * (128 + 32) + 32 + 4 * 320 + 4 * 64 + 7 * 16),
    ],
)
def test_activations_of_a_token_and_layer(values, per_layer):
    thin = Architecture(**{**vars(SIZES), "layers": 2})
    difference = activation_bytes(SIZES, config(**values), MicroBatch(10, 5)) - activation_bytes(
        thin, config(**values), MicroBatch(10, 5)
    )
    assert difference == 10 * per_layer


def test_checkpointing_keeps_a_layers_input_and_one_layer():
    thin = Architecture(**{**vars(SIZES), "layers": 2})
    checkpointed = config(gradient_checkpointing=True)
    batch = MicroBatch(10, 5)
    assert activation_bytes(SIZES, checkpointed, batch) - activation_bytes(thin, checkpointed, batch) == (
        10 * 2 * 64
    )


def test_eager_attention_keeps_the_square_of_each_row():
    batch = MicroBatch(10, 5, (6, 4))
    more = activation_bytes(SIZES, config(attn_implementation="eager"), batch)
    assert more - activation_bytes(SIZES, config(), batch) == 3 * 8 * (36 + 16) * 6


def test_few_logits_are_held_at_once():
    # bfloat16 logits, and the larger of 32 positions' softmax and the head's gradient
    assert logit_bytes(SIZES, config(), 5000) == 5000 * 100 * 2 + 32 * 100 * 8


def test_many_logits_come_in_even_chunks():
    # 2.5 chunks' worth makes 3; the head's gradient in bfloat16, and the sum in float32
    many = 5 * (96 << 20) // 200
    assert logit_bytes(SIZES, config(), many) == math.ceil(many / 3) * 200 + 6400 * (2 + 4)


def test_a_frozen_head_has_no_gradient():
    assert logit_bytes(SIZES, config(use_lora=True), 20) == 20 * 100 * (2 + 8)


def test_an_architecture_without_lean_modules_keeps_more():
    plain = Architecture(**{**vars(SIZES), "is_lean": False})
    more = activation_bytes(plain, config(), SMALL) - activation_bytes(SIZES, config(), SMALL)
    # a norm's input in float32 and its unit output; silu's output; the norms' and the product's
    norm = (4 + 2 - 2) * 64
    assert more == 10 * (SIZES.layers * (2 * norm + 2 * 160 + 2 * (128 + 160)) + norm)


BODY = 3 * (64 * 64 + 2 * 64 * 16 + 64 * 64 + 2 * 64 * 160 + 160 * 64)  # q; k and v; o; gate and up; down
HEAD = 100 * 64 / 2  # half of the tokens are supervised


@pytest.mark.parametrize(
    ("values", "flops"),
    [
        ({}, 6 * (BODY + HEAD)),
        ({"use_lora": True}, 4 * (BODY + HEAD)),
        ({"gradient_checkpointing": True}, 8 * BODY + 6 * HEAD),
        ({"gradient_checkpointing": True, "gradient_checkpointing_every": 2}, 7 * BODY + 6 * HEAD),
    ],
)
def test_operations_of_a_token(values: dict[str, Any], flops: float):
    assert token_flops(SIZES, config(**values), 0.5) == flops


def test_a_reference_runs_forward_once_for_all_epochs_or_in_each():
    common = {"model_name_or_path": "m", "data_path": ["d"], "output_dir": "o", "num_train_epochs": 2}
    cached, kept = (DPOConfig(**common, precompute_ref_log_probs=value) for value in (True, False))
    assert token_flops(SIZES, cached, 0.5) == 7 * (BODY + HEAD)
    assert token_flops(SIZES, kept, 0.5) == 8 * (BODY + HEAD)


def test_gpus_reach_two_fifths_of_what_they_multiply_at_best():
    found = on_gpus(SIZES, config(), 0.5, tflops=100, workers=8)
    assert found.tokens_per_second == pytest.approx(0.4 * 8e14 / (6 * (BODY + HEAD)))


def test_bf16_takes_14_bytes_a_weight_at_the_update():
    """Weight and gradient 2 each, of the master the half that the weight lacks 2, both moments 8."""
    part = memory()
    assert part.moments["at the update"] == 14 * WEIGHTS
    assert (part.weights, part.gradients, part.optimizer) == (2 * WEIGHTS, 2 * WEIGHTS, 10 * WEIGHTS)


@pytest.mark.parametrize("values", [{"gradient_accumulation_steps": 2}, {"num_workers": 2}])
def test_gradients_that_are_added_up_are_float32(values: dict[str, Any]):
    part = memory(workers=values.get("num_workers", 1), **values)
    assert part.moments["at the update"] == 16 * WEIGHTS


def test_deepspeed_keeps_whole_masters():
    assert memory(deepspeed="zero0").optimizer == 12 * WEIGHTS


def test_fp32_takes_16_bytes_a_weight():
    assert memory(bf16=False).moments["at the update"] == 16 * WEIGHTS


def test_only_adapters_have_optimizer_state():
    # rank 4 on 64 x 64, 64 x 16 and 160 x 64
    adapters = 4 * (128 + 80 + 224)
    part = memory(**LORA)
    assert adapter_parameters(SHAPES, config(**LORA)) == adapters
    assert part.weights == 2 * WEIGHTS + 4 * adapters
    assert part.gradients + part.optimizer == 12 * adapters


def test_named_targets_alone_get_adapters():
    values = {**LORA, "lora_target_modules": ["q_proj"]}
    assert adapter_parameters(SHAPES, config(**values)) == 4 * 128


@pytest.mark.parametrize(
    ("stage", "weights", "raw_gradients", "optimizer"),
    [("zero0", 1, 1, 1), ("zero1", 1, 1, 4), ("zero2", 1, 4, 4), ("zero3", 4, 4, 4)],
)
def test_zero_stages_shard_over_workers(stage, weights, raw_gradients, optimizer):
    part = memory(workers=4, num_workers=4, deepspeed=stage)
    assert part.weights == 2 * WEIGHTS // weights
    assert part.raw_gradients == 2 * WEIGHTS // raw_gradients
    assert part.optimizer == 12 * WEIGHTS // optimizer


@pytest.mark.parametrize(
    ("stage", "workers", "on_gpu", "numbers"),
    [
        ("none", 4, True, 0),
        ("zero0", 4, True, 0),
        ("zero2", 4, True, 5 * 10**7),
        ("zero2", 4, False, WEIGHTS),  # a CPU gives memory to what is written alone
        ("zero3", 1, False, WEIGHTS),  # nothing is gathered from others
        ("zero3", 4, True, 5 * 10**7 + WEIGHTS),
    ],
)
def test_deepspeeds_buffers(stage: str, workers: int, on_gpu: bool, numbers: int):
    job = config(deepspeed=stage, num_workers=workers)
    part = footprint(job, SHAPES, SIZES, SMALL, workers=workers, libraries=0, on_gpu=on_gpu)
    assert part.buffers == 2 * numbers
    bare = replace(part, buffers=0)
    more = [
        after - before for after, before in zip(part.moments.values(), bare.moments.values(), strict=True)
    ]
    assert more == [0, *3 * [2 * numbers], 0]


def test_a_json_files_buckets_are_its_own(tmp_path: Path):
    path = tmp_path / "zero.json"
    zero = {"stage": 2, "overlap_comm": True, "reduce_bucket_size": 1000}
    path.write_text(json.dumps({"zero_optimization": zero}))
    assert memory(deepspeed=str(path)).buffers == 2 * 2 * 1000
    path.write_text(json.dumps({"zero_optimization": {**zero, "contiguous_gradients": False}}))
    assert memory(deepspeed=str(path)).buffers == 0


def test_a_reference_is_whole_while_its_logps_are_worked_out_and_sharded_when_kept():
    def part(**how: bool) -> Footprint:
        zero3 = config(num_workers=10, deepspeed="zero3")
        return footprint(zero3, SHAPES, SIZES, MicroBatch(1, 1), workers=10, libraries=7, **how)

    assert part(precomputes_reference=True).moments["at the reference's log-probs"] == 7 + 2 * WEIGHTS
    kept = part(keeps_reference=True)
    assert kept.reference == 2 * WEIGHTS // 10
    assert kept.moments["at the reference's log-probs"] == 7


def test_the_peak_is_the_highest_moment():
    long = memory(MicroBatch(10_000, 5))
    assert long.peak_moment == "at the loss"
    assert long.peak == 12 * WEIGHTS + long.activations + long.logits
    assert memory(MicroBatch(1, 1), workers=2, num_workers=2).peak_moment == "at the update"


@pytest.mark.parametrize(
    ("values", "workers", "earlier"),
    [
        ({"gradient_accumulation_steps": 2}, 1, 4),
        ({"max_tokens_per_batch": 64}, 1, 4),
        ({"num_workers": 2}, 2, 0),
        # left alone, the one worker takes the micro-batches of both
        ({"num_workers": "1:2"}, 2, 4),
    ],
)
def test_gradients_of_earlier_micro_batches_are_there_at_the_loss(
    values: dict[str, Any], workers: int, earlier: int
):
    job = memory(workers=workers, **values)
    at_once = memory()
    assert job.moments["at the loss"] - at_once.moments["at the loss"] == earlier * WEIGHTS


def test_a_checkpoint_copies_weights_and_state():
    assert memory(save_steps=5).moments["at the save"] == (12 + 2 + 12) * WEIGHTS


def test_a_checkpoint_in_the_background_is_held_beside_a_step():
    written_at_once = memory(save_steps=5, async_save=False).moments
    assert memory(save_steps=5).moments["at the update"] == written_at_once["at the update"] + 14 * WEIGHTS


def test_an_adapter_is_merged_into_a_second_base():
    part = memory(**LORA)
    assert part.moments["at the save"] == part.moments["at the loss"] + 2 * WEIGHTS


def test_a_gpu_holds_no_copy_of_what_is_saved():
    part = footprint(config(save_steps=5), SHAPES, SIZES, SMALL, workers=1, libraries=0, on_gpu=True)
    assert part.saving == 0


def test_an_unknown_architecture_is_refused(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps({"n_layer": 2, "n_embd": 8, "vocab_size": 9}))
    with pytest.raises(ModelError, match="num_hidden_layers, hidden_size"):
        read_architecture(tmp_path)


def test_the_files_first_line_names_the_job(tmp_path: Path):
    path = tmp_path / "job.yaml"
    path.write_text("# autoalign-cli dpo --config job.yaml\nseed: 1\n")
    assert _job_of(str(path), []) == "dpo"


def test_a_key_of_dpos_own_names_the_job(tmp_path: Path):
    path = tmp_path / "job.yaml"
    path.write_text("seed: 1\nbeta: 0.2\n")
    assert _job_of(str(path), []) == "dpo"
    assert _job_of(None, ["--loss-type", "ipo"]) == "dpo"
    assert _job_of(None, ["--seed", "1"]) == "sft"


def test_nothing_to_plan():
    with pytest.raises(ConfigError, match="nothing to plan"):
        _job_of(None, [])


@pytest.mark.parametrize("flags", [["--tokens_per_second", "0"], ["--gpu_memory_gib", "much"]])
def test_figures_are_positive_numbers(flags, capsys):
    assert main(["plan", "--seed", "1", *flags]) == 2
    assert "invalid positive number value" in capsys.readouterr().err


def test_a_gpu_job_needs_the_gpus_size(capsys):
    code = main(["plan", "--model_name_or_path", "m", "--data_path", "d", "--output_dir", "o", "--use_gpu"])
    assert code == 2
    assert "--gpu_memory_gib N" in capsys.readouterr().err
