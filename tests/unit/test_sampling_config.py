"""The keys of a sampling job: defaults, paths, refusals, and the former toolkit's flags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autoalign.cli.flags import config_from_args
from autoalign.cli.sample import _translate
from autoalign.config.sample import InferConfig
from autoalign.errors import ConfigError


def config(**values: Any) -> InferConfig:
    return InferConfig.build({"model_path": "models/m", "test_file": "data/q.jsonl.gz", **values})


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ({}, "outputs/m/m_q.jsonl"),
        ({"source": "uc", "model_name": "org/n"}, "outputs/org_n/uc_q.jsonl"),
        ({"output_format": "sharegpt"}, "outputs/m/m_q.json"),
        ({"output_file": "x.jsonl", "output_dir": "o"}, "o/m/x.jsonl"),
        ({"output_file": "here/x.jsonl"}, "here/x.jsonl"),
        ({"output_file": "./x.jsonl"}, "x.jsonl"),
        ({"shard": "3/16"}, "outputs/m/m_q-00003-of-00016.jsonl"),
    ],
)
def test_where_the_answers_go(values: dict[str, Any], path: str) -> None:
    assert config(**values).output_path == Path(path)


@pytest.mark.parametrize("flag", ["--model-path", "--model_path"])
def test_both_spellings_of_a_flag(flag: str) -> None:
    args = [flag, "m", "--test-file", "a.json", "b.json", "--temperature", "0.5"]
    parsed = config_from_args(InferConfig, args, "infer")
    assert (parsed.model_path, parsed.test_file, parsed.temperature) == ("m", ["a.json", "b.json"], 0.5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temprature": 1}, "did you mean 'temperature'"),
        ({"n": 0}, "'n'"),
        ({"top_p": 1.5}, "'top_p'"),
        ({"model_path": None}, "'model_path' is missing"),
        ({"backend": "llama"}, "'backend'"),
        ({"test_file": []}, "'test_file' is empty"),
    ],
)
def test_what_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**values)


def test_an_endpoint_needs_a_model_name_only() -> None:
    built = InferConfig.build({"backend": "openai", "model_name": "gpt-x", "test_file": "q.json"})
    assert built.name == "gpt-x"


def test_flags_of_the_former_toolkit() -> None:
    given = ["--max-new-tokens-per-utterance=64", "--num_gpus_per_model", "2", "--debug-mode", "--n", "1"]
    expected = ["--max_new_tokens", "64", "--tensor_parallel_size", "2", "--limit", "1000", "--n", "1"]
    assert _translate(given) == expected


@pytest.mark.parametrize("shard", ["2/2", "0/0", "-1/2", "3"])
def test_a_shard_that_there_is_not(shard: str) -> None:
    with pytest.raises(ConfigError, match="shard"):
        config(shard=shard)
