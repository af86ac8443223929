"""A row's log-probs are those of the model's own forward pass, whatever lies beside it, in every family.

Two pairs of answers to a prompt each go through the trainer's own choice of layout and attention;
each answer is then held against the row alone under transformers' eager attention.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from autoalign.config.dpo import DPOConfig  # noqa: E402
from autoalign.errors import ConfigError  # noqa: E402
from autoalign.training import reference  # noqa: E402
from autoalign.training.answer_head import answer_head  # noqa: E402
from autoalign.training.attention import attend_rows  # noqa: E402
from autoalign.training.batches import collate  # noqa: E402
from autoalign.training.model import (  # noqa: E402
    is_padding_free,
    load_model,
    own_attention,
    padding_note,
    shares_prompts,
)
from autoalign.training.preference import AnswerLogps  # noqa: E402
from autoalign.training.task import TrainTask  # noqa: E402
from autoalign.training.tokens import TokenRow  # noqa: E402

VOCAB = 61
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
WINDOW = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
CODE = "attends by code of its own"
STATE = "hands a state or a convolution on from token to token"


@dataclass(frozen=True)
class Family:
    """A model type, sizes beside or in place of the shared ones, and why its rows are padded."""

    name: str
    sizes: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None
    shared: dict[str, Any] = field(default_factory=lambda: SIZES)


NAMED_OTHERWISE = {"vocab_size": VOCAB, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
FAMILIES = [
    Family("llama"),
    Family("qwen3"),
    Family("gemma2", WINDOW, "soft-caps its attention logits"),
    Family("gemma3_text", WINDOW),
    Family("gpt_oss", {"num_local_experts": 4, **EXPERTS, **WINDOW}, "has attention sinks"),
    Family("lfm2", {"layer_types": ["conv", "full_attention"], "block_multiple_of": 16}, STATE),
    Family(
        "falcon_h1",
        {
            "mamba_d_ssm": 32,
            "mamba_n_heads": 4,
            "mamba_d_head": 8,
            "mamba_d_state": 8,
            "mamba_n_groups": 1,
            "lm_head_multiplier": 0.25,
        },
        STATE,
    ),
    Family(
        "qwen3_next",
        {
            "layer_types": ["linear_attention", "full_attention"],
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "num_experts": 4,
            "shared_expert_intermediate_size": 16,
            **EXPERTS,
        },
        STATE,
    ),
    Family("bloom", {"hidden_size": 32, "n_layer": 2, "n_head": 4}, CODE, NAMED_OTHERWISE),
    Family(
        "gpt_neo",
        {
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 4,
            "max_position_embeddings": 64,
        },
        CODE,
        NAMED_OTHERWISE,
    ),
    Family(
        "mpt",
        {"d_model": 32, "n_layers": 2, "n_heads": 4, "expansion_ratio": 2, "max_seq_len": 64},
        CODE,
        NAMED_OTHERWISE,
    ),
]


def config(**values: Any) -> DPOConfig:
    return DPOConfig(model_name_or_path="m", data_path=["d"], output_dir="o", bf16=False, **values)


def save(family: Family | str, folder: Path) -> str:
    """A random model whose weights are large enough for what tokens do to each other to show."""
    if isinstance(family, str):
        family = next(one for one in FAMILIES if one.name == family)
    made = transformers.AutoConfig.for_model(family.name, **{**family.shared, **family.sizes})
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(made)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3) if parameter.ndim > 1 else None
    model.save_pretrained(folder)
    return str(folder)


def rows() -> list[TokenRow]:
    """Two prompts of 6 and 9 tokens, each with two answers of 3 to 7, all but the prompts supervised."""
    generator = np.random.default_rng(0)
    prompts = [generator.integers(3, VOCAB, length) for length in (6, 9)]
    made = []
    for prompt, answers in zip(prompts, ((7, 3), (4, 6)), strict=True):
        for answer in answers:
            ids = np.concatenate([prompt, generator.integers(3, VOCAB, answer)]).astype(np.int32)
            made.append(TokenRow(ids, np.arange(len(ids)) >= len(prompt)))
    return made


def logps(path: str, given: list[TokenRow]) -> list[Any]:
    """Each row's answer, token by token, from one batch as the trainer makes it."""
    job = config()
    layout = is_padding_free(job, path), 0, shares_prompts(job, path)
    batch = collate(given, *layout)
    values = AnswerLogps(load_model(job, path).eval())(batch)
    return list(values.detach().split(list(batch.answer_lengths)))


def own_logps(path: str, row: TokenRow) -> Any:
    """The same of a row alone, by the model's own forward pass with eager attention."""
    model = transformers.AutoModelForCausalLM.from_pretrained(path, attn_implementation="eager").eval()
    ids = torch.from_numpy(row.input_ids.astype(np.int64))
    with torch.no_grad():
        scores = model(input_ids=ids[None], use_cache=False).logits[0, :-1].log_softmax(-1)
    return scores.gather(1, ids[1:, None])[torch.from_numpy(row.supervised[1:]), 0]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_rows_log_probs_are_its_own(family: Family, tmp_path: Path):
    path, given = save(family, tmp_path), rows()
    together = logps(path, given)
    for row, beside in zip(given, together, strict=True):
        torch.testing.assert_close(beside, own_logps(path, row), atol=1e-5, rtol=0)
    row = given[0]
    changed = TokenRow(np.append(row.input_ids[:-1], 3).astype(np.int32), row.supervised)
    again = logps(path, [changed, *given[1:]])
    torch.testing.assert_close(again[0][:-1], together[0][:-1], atol=1e-6, rtol=0)  # the future is not seen
    assert padding_note(config(), path) == (
        family.reason and f"rows are padded, and no prompt is shared: {path} {family.reason}"
    )


def test_a_factor_of_the_logits_is_no_plain_head(tmp_path: Path):
    path = save("falcon_h1", tmp_path)
    assert answer_head(transformers.AutoModelForCausalLM.from_pretrained(path)) is None


@pytest.mark.parametrize(
    ("name", "wanted", "attention"),
    [
        ("llama", "rows", None),
        ("gemma2", "rows", "eager"),  # SDPA would leave out the soft caps
        ("gpt_oss", "auto", "eager"),  # and the sinks
        ("lfm2", "auto", "sdpa"),
        ("mpt", "auto", "eager"),  # it has no SDPA
        ("llama", "eager", None),  # as the config says
    ],
)
def test_a_padded_model_attends_by_itself(name: str, wanted: str, attention: str | None, tmp_path: Path):
    path = save(name, tmp_path)
    assert own_attention(config(attn_implementation=wanted), path) == attention


def test_sdpa_is_refused_where_it_is_another_function(tmp_path: Path):
    path = save("gemma2", tmp_path)
    with pytest.raises(ConfigError, match="sdpa is not for a model that soft-caps its attention logits"):
        load_model(config(attn_implementation="sdpa"), path)


def test_a_padded_model_shares_no_rows_between_ranks(tmp_path: Path):
    path = save("lfm2", tmp_path)
    job = config(sequence_parallel_size=2, num_workers=2)
    with pytest.raises(ConfigError, match="'sequence_parallel_size' does not go with a model that hands"):
        load_model(job, path)


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({"s_aux": torch.zeros(2)}, "s_aux"),
        ({"softcap": 50.0}, "softcap"),
        ({"is_causal": False}, "is_causal"),
        ({"row_lengths": None}, "no row_lengths"),
        ({"attention_mask": torch.zeros(1, 1, 3, 3)}, "attention_mask"),
    ],
)
def test_a_kernel_of_rows_refuses_what_it_would_leave_out(asked: dict[str, Any], name: str):
    heads = torch.zeros(1, 2, 3, 4)
    given = {"attention_mask": None, "row_lengths": (3,), **asked}
    with pytest.raises(ValueError, match=f"Identity attends with {name}, which rows laid end to end can't"):
        attend_rows(torch.nn.Identity(), heads, heads, heads, **given)
    # What an inert argument says does not matter.
    attend_rows(torch.nn.Identity(), heads, heads, heads, None, row_lengths=(3,), s_aux=None, is_causal=True)


def test_a_reference_that_takes_rows_otherwise_is_refused(tmp_path: Path):
    policy, other = save("llama", tmp_path / "policy"), save("lfm2", tmp_path / "other")
    (tmp_path / "other" / "tokenizer.json").write_text("{}")
    task = TrainTask(config(ref_model=other), policy, None, {}, None, None)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="set padding_free to false for both"):
        reference.load(task)
