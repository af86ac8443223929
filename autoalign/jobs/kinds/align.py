"""Automatic alignment; settings of its engines and trainings are for the command line alone."""

from autoalign.config.align import AlignConfig
from autoalign.jobs.kinds._keys import TRAINED, roles
from autoalign.jobs.kinds._kind import Kind

_KEYS = roles(
    MODEL="model_name_or_path reward_model",
    DATA="prompt_path held_out_path benchmark_path principles_path prompts_dir",
    OUTPUT="output_dir",
    NAME="algorithm format verifier benchmark_verifier metric_judge",
    CHOICE="template",
    TEXT="principles",
    CLOSED="options round_options models engine training verifier_options benchmark_options ray_address",
)
KIND = Kind(AlignConfig, "align", _KEYS, TRAINED)
