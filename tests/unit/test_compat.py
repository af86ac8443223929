"""Model folders are rewritten so that transformers 4.57 reads what transformers 5 saved."""

import json
import os

import pytest

from autoalign.compat import config_for_both, make_loadable_by_transformers_4, tokenizer_config_for_both
from autoalign.errors import ModelError


def test_rope_theta_is_written_where_4_looks_for_it():
    config = config_for_both({"rope_parameters": {"rope_theta": 100000.0, "rope_type": "default"}})
    assert config["rope_theta"] == 100000.0
    assert "rope_scaling" not in config
    assert config["rope_parameters"] == {"rope_theta": 100000.0, "rope_type": "default"}


def test_a_scaled_rope_keeps_its_scaling():
    rope = {"rope_theta": 5e5, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0}
    config = config_for_both({"rope_parameters": rope})
    assert config["rope_theta"] == 5e5
    assert config["rope_scaling"] == {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0}


def test_partial_rotary_factor_moves_to_the_top():
    rope = {"rope_theta": 1e4, "rope_type": "default", "partial_rotary_factor": 0.5}
    assert config_for_both({"rope_parameters": rope})["partial_rotary_factor"] == 0.5


def test_gemma_3_has_a_base_for_each_kind_of_layer():
    rope = {
        "full_attention": {"rope_theta": 1e6, "rope_type": "linear", "factor": 8.0},
        "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"},
    }
    config = config_for_both({"text_config": {"rope_parameters": rope}})["text_config"]
    assert (config["rope_theta"], config["rope_local_base_freq"]) == (1e6, 1e4)
    assert config["rope_scaling"] == {"rope_type": "linear", "factor": 8.0}


def test_the_saving_machines_name_for_the_model_is_dropped():
    assert config_for_both({"_model_name_or_path": "/home/me/x", "vocab_size": 3}) == {"vocab_size": 3}


def test_tokenizer_class_and_inputs_are_those_4_knows():
    config = tokenizer_config_for_both(
        {
            "tokenizer_class": "TokenizersBackend",
            "backend": "tokenizers",
            "is_local": True,
            "eos_token": "</s>",
        }
    )
    assert config == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "attention_mask"],
        "eos_token": "</s>",
    }


def test_a_class_of_its_own_is_kept():
    assert tokenizer_config_for_both({"tokenizer_class": "LlamaTokenizer"}) == {
        "tokenizer_class": "LlamaTokenizer"
    }


def test_a_list_of_extra_special_tokens_takes_its_older_name():
    config = tokenizer_config_for_both({"tokenizer_class": "X", "extra_special_tokens": ["<a>", "<b>"]})
    assert config == {"tokenizer_class": "X", "additional_special_tokens": ["<a>", "<b>"]}


def test_a_folder_is_rewritten_once_and_its_weights_are_readable(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"rope_parameters": {"rope_theta": 7.0}}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "TokenizersBackend"}))
    weights = tmp_path / "model.safetensors"
    weights.touch(mode=0o600)
    umask = os.umask(0o022)
    try:
        make_loadable_by_transformers_4(tmp_path)
        first = (tmp_path / "config.json").stat().st_mtime_ns
        make_loadable_by_transformers_4(tmp_path)
    finally:
        os.umask(umask)
    assert json.loads((tmp_path / "config.json").read_text())["rope_theta"] == 7.0
    assert (tmp_path / "config.json").stat().st_mtime_ns == first
    assert weights.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("text", "reason"), [(None, "is missing"), ("{", "not valid JSON"), ("[]", "JSON object")]
)
def test_a_folder_without_a_usable_config_is_refused(tmp_path, text, reason):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match=reason):
        make_loadable_by_transformers_4(tmp_path)
