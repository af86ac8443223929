"""Evaluation on benchmarks. A benchmark of one's own may be a Python file, so names alone are taken."""

from autoalign.config.evaluate import EvalConfig
from autoalign.jobs.kinds._keys import roles
from autoalign.jobs.kinds._kind import Kind

_KEYS = roles(
    MODEL="model_path judge_model reward_model",
    NAME="model_name model_id datasets benchmarks",
    CHOICE="template_name judge_template judge_prompt guard_prompt",
    DATA="mt_path alpaca_path arena_path data_root training_data",
    OUTPUT="output_dir config_dir",
    CLOSED="endpoint api_key_env judge_base_url judge_api_key_env opencompass_path opencompass_python "
    "trust_remote_code",
)
KIND = Kind(EvalConfig, "eval", _KEYS, {"output_dir": "out", "config_dir": "out/configs"})
