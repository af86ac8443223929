"""Automatic alignment over rounds."""

from autoalign.config.align import ROLES, AlignConfig
from autoalign.jobs.kinds._keys import ENGINE, TRAINING, roles
from autoalign.jobs.kinds._kind import Kind, Role

_KEYS = roles(
    MODEL="model_name_or_path reward_model",
    DATA="prompt_path principles_path prompts_dir held_out_path benchmark_path",
    OUTPUT="output_dir",
    NAME="algorithm format verifier metric_judge benchmark_verifier",
    CHOICE="template held_out_judge_prompt",
    TEXT="principles options round_options models engine training verifier_options benchmark_options",
    CLOSED="ray_address",
)
# An algorithm's or a scorer's own options: numbers and plain names.
_PLAIN = {"*": Role.NAME}
_NESTED = {
    "training": TRAINING | roles(MODEL="ref_model", NAME="loss_type"),
    "engine": ENGINE,
    "models": dict.fromkeys(ROLES, Role.MODEL),
    "models.*": ENGINE,
    "options": _PLAIN,
    "round_options": _PLAIN,
    "verifier_options": _PLAIN,
    "benchmark_options": _PLAIN,
}
KIND = Kind(
    AlignConfig,
    "align",
    _KEYS,
    {"output_dir": "out"},
    makes_model=True,
    nested=_NESTED,
    model_named_by=("report.json", "policy"),
)
