"""What the training config refuses, and how it says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autoalign.cli.flags import config_from_args
from autoalign.config.deepspeed import settings
from autoalign.config.sft import SFTConfig
from autoalign.errors import ConfigError

NEEDED = ["--model_name_or_path", "m", "--data_path", "d", "--output_dir", "o"]


def _parse(*args: str) -> SFTConfig:
    return config_from_args(SFTConfig, [*NEEDED, *args], "autoalign-cli sft")


def test_an_unknown_flag_names_the_nearest():
    with pytest.raises(
        ConfigError, match=r"unknown flag '--learnig_rate' \(did you mean '--learning_rate'\?\)"
    ):
        _parse("--learnig_rate", "1")


def test_an_unknown_key_names_its_line_and_the_nearest(tmp_path: Path):
    path = tmp_path / "x.yaml"
    path.write_text("model_name_or_path: m\nlora_rnk: 3\n")
    with pytest.raises(
        ConfigError, match=r"x\.yaml:2: unknown key 'lora_rnk' \(did you mean 'lora_rank'\?\)"
    ):
        config_from_args(SFTConfig, ["--config", str(path)], "sft")


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--learning_rate", "fast"),
        ("--max_steps", "1.5"),
        ("--bf16", "maybe"),
        ("--lr_scheduler_type", "cosin"),
        ("--per_device_train_batch_size", "0"),
        ("--deepspeed", "zero9"),
        ("--report_to", "paper"),
    ],
)
def test_a_wrong_value_is_refused_by_name(flag: str, value: str):
    with pytest.raises(ConfigError, match=flag.removeprefix("--")):
        _parse(flag, value)


def test_a_flag_overrides_the_file(tmp_path: Path):
    path = tmp_path / "x.yaml"
    path.write_text("model_name_or_path: m\ndata_path: [d]\noutput_dir: o\nseed: 1\n")
    config = config_from_args(SFTConfig, ["--config", str(path), "--seed", "2"], "sft")
    assert config.seed == 2


def test_both_spellings_and_bools():
    config = _parse(
        "--learning-rate", "1e-3", "--no_bf16", "--packing", "--lora_target_modules", "q_proj", "v_proj"
    )
    assert (config.learning_rate, config.bf16, config.packing) == (1e-3, False, True)
    assert config.lora_target_modules == ["q_proj", "v_proj"]


def test_none_takes_an_optional_value_back():
    assert _parse("--save_steps", "none").save_steps is None
    assert _parse("--run_name", "none").run_name is None


def test_report_to_takes_several_trackers_and_none():
    assert _parse("--report_to", "none").report_to == []
    assert _parse("--report_to", "wandb", "mlflow", "wandb").report_to == ["wandb", "mlflow"]
    with pytest.raises(ConfigError, match="none stands alone"):
        _parse("--report_to", "none", "wandb")


@pytest.mark.parametrize(
    ("given", "save_steps"),
    [
        (["--eval_every", "50"], 50),
        (["--eval_every", "50", "--save_steps", "none"], 50),
        (["--eval_every", "50", "--save_steps", "25"], 25),
        ([], None),
    ],
)
def test_eval_every_alone_saves_the_checkpoints_that_it_evaluates(given: list[str], save_steps: int | None):
    assert _parse("--eval_config", "e.yaml", *given).save_steps == save_steps


def test_eval_every_is_a_multiple_of_save_steps_and_needs_its_config():
    with pytest.raises(
        ConfigError, match=r"'eval_every' \(150\) has to be a multiple of 'save_steps' \(100\)"
    ):
        _parse("--eval_config", "e.yaml", "--eval_every", "150", "--save_steps", "100")
    with pytest.raises(ConfigError, match="'eval_every' is given without 'eval_config'"):
        _parse("--eval_every", "150")


def test_a_wrong_eval_every_is_told_once():
    with pytest.raises(ConfigError) as refused:
        _parse("--eval_config", "e.yaml", "--eval_every", "often")
    assert str(refused.value).count("\n") == 0
    assert "eval_every" in str(refused.value)


def test_packing_refuses_attention_that_crosses_rows():
    with pytest.raises(ConfigError, match="rows see"):
        _parse("--packing", "--attn_implementation", "sdpa")


def test_a_deepspeed_file_takes_the_jobs_values_for_auto(tmp_path: Path):
    path = tmp_path / "ds.json"
    path.write_text(json.dumps({"zero_optimization": {"stage": 2}, "gradient_clipping": "auto"}))
    config = _parse("--deepspeed", str(path), "--max_grad_norm", "0.5", "--per_device_train_batch_size", "3")
    found = settings(config, world_size=2)
    assert found["gradient_clipping"] == 0.5
    assert found["train_batch_size"] == 6


def test_a_deepspeed_file_that_contradicts_the_job_is_refused(tmp_path: Path):
    path = tmp_path / "ds.json"
    path.write_text(json.dumps({"gradient_clipping": 3.0}))
    with pytest.raises(ConfigError, match=r"gradient_clipping' is 3.0, but the job says 1.0"):
        settings(_parse("--deepspeed", str(path)), world_size=1)


def test_options_of_the_nll_term_go_with_rpo_alpha_everywhere() -> None:
    """Whether a reference is needed is asked without the term that `rpo_alpha` adds."""
    from autoalign.config.dpo import DPOConfig
    from autoalign.training.reference import is_needed

    values = {"model_name_or_path": "m", "data_path": ["d"], "output_dir": "o"}
    config = DPOConfig.build({**values, "rpo_alpha": 1.0, "nll_average": "rows"})
    assert is_needed(config)


def test_a_running_shift_is_refused_because_training_keeps_none() -> None:
    from autoalign.config.dpo import DPOConfig

    values = {"model_name_or_path": "m", "data_path": ["d"], "output_dir": "o", "loss_type": ["bco_pair"]}
    assert DPOConfig.build({**values, "reward_shift": False}).loss_options == {"reward_shift": False}
    with pytest.raises(ConfigError, match="'reward_shift' is a running mean over all workers' rewards"):
        DPOConfig.build({**values, "reward_shift": True})
