"""What ties a folder to a job: every key that decides its weights, and digests of what it reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from autoalign import chat
from autoalign.config.dpo import DPOConfig
from autoalign.config.rm import RMConfig
from autoalign.config.sft import SFTConfig
from autoalign.errors import ConfigError
from autoalign.training import output
from autoalign.training.prepare import DataUsed, make_task
from autoalign.training.tokens import TokenCounts

BY_DIGEST = {"model_name_or_path", "ref_model", "data_path", "eval_data_path", "conv_template_name"}
IN_GLOBAL_BATCH = {
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "num_workers",
    "sequence_parallel_size",
}
# A run may go on with these changed: they decide where, how fast and in what pieces it computes,
# what it writes, and when it gives up.
FREE = {
    *("output_dir", "cache_dir", "overwrite_output_dir", "resume", "storage_path", "storage_timeout"),
    *("on_bad_row", "streaming", "trust_remote_code"),
    *("on_bad_loss", "max_bad_steps", "loss_spike_factor", "loss_spike_window"),
    *("per_device_eval_batch_size", "max_tokens_per_batch", "padding_free", "share_prompts"),
    *("gradient_checkpointing", "gradient_checkpointing_every", "attn_implementation", "torch_compile"),
    *("use_liger_kernel", "offload_optimizer", "offload_param", "offload_path", "activation_offload"),
    *("deepspeed", "launcher", "use_gpu", "cpus_per_worker", "precompute_ref_log_probs"),
    *("max_failures", "schedule_timeout", "hang_timeout"),
    *("eval_steps", "eval_config", "eval_every", "logging_steps", "report_to", "run_name", "project"),
    *("save_steps", "save_total_limit", "async_save"),
}


@pytest.mark.parametrize("kind", [SFTConfig, DPOConfig, RMConfig])
def test_every_key_is_decisive_or_known_not_to_be(kind: type[SFTConfig]):
    """A key that is new belongs into `output._DECISIVE`, or into one of the lists above."""
    assert set(kind.model_fields) - set(output._DECISIVE) - BY_DIGEST - IN_GLOBAL_BATCH - FREE == set()


def test_no_key_is_on_two_lists():
    lists = [*output._DECISIVE, *BY_DIGEST, *IN_GLOBAL_BATCH, *FREE]
    assert len(lists) == len(set(lists))


def _model(folder: Path, weights: bytes) -> str:
    folder.mkdir(exist_ok=True)
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_text("{}")
    (folder / "model.safetensors").write_bytes(weights)
    return str(folder)


def _fingerprint(kind: Any, tmp_path: Path, evaluation: str | None = None, **values: Any) -> dict[str, Any]:
    model = _model(tmp_path / "model", b"policy")
    config = kind(model_name_or_path=model, data_path=["d"], output_dir="o", **values)
    data = DataUsed("rows", ("d",), TokenCounts(1), evaluation)
    task = make_task(config, model, chat.get_template("chatml"), data)
    found: dict[str, Any] = task.made_by["fingerprint"]
    return found


def test_a_reference_counts_by_what_it_holds(tmp_path: Path):
    first = _fingerprint(DPOConfig, tmp_path, ref_model=_model(tmp_path / "a", b"one"))
    same = _fingerprint(DPOConfig, tmp_path, ref_model=_model(tmp_path / "b", b"one"))
    changed = _fingerprint(DPOConfig, tmp_path, ref_model=_model(tmp_path / "a", b"two"))
    none = _fingerprint(DPOConfig, tmp_path)
    assert first == same
    assert {key for key in first if first[key] != changed[key]} == {"reference_digest"}
    assert none["reference_digest"] is None


def test_evaluation_data_count_where_they_choose_the_best(tmp_path: Path):
    chooses = {"metric_for_best_model": "loss", "eval_data_path": ["e"], "eval_steps": 1, "save_steps": 1}
    assert _fingerprint(SFTConfig, tmp_path, "abc", **chooses)["evaluation_digest"] == "abc"
    watches = {"eval_data_path": ["e"]}
    assert _fingerprint(SFTConfig, tmp_path, "abc", **watches)["evaluation_digest"] is None


def test_an_option_of_a_loss_counts(tmp_path: Path):
    assert _fingerprint(DPOConfig, tmp_path, loss_type=["sso"], sso_alpha=0.5)["sso_alpha"] == 0.5


def test_a_run_from_before_digests_were_written_down_goes_on(tmp_path: Path):
    reference = _model(tmp_path / "a", b"one")
    now = _fingerprint(DPOConfig, tmp_path, ref_model=reference, loss_type=["sso"], sso_alpha=0.5)
    later = ("reference_digest", "evaluation_digest", "sso_alpha")
    before = {key: value for key, value in now.items() if key not in later}
    output.compare({**before, "ref_model": "a"}, now, "out")
    with pytest.raises(ConfigError, match=r"beta: was 0\.3"):
        output.compare({**before, "beta": 0.3}, now, "out")
    with pytest.raises(ConfigError, match="reference_digest: was 'another'"):
        output.compare({**now, "reference_digest": "another"}, now, "out")
