"""The roles of keys that several kinds share."""

from __future__ import annotations

from autoalign.jobs.kinds._kind import Role


def roles(**keys: str) -> dict[str, Role]:
    """`NAME="key key"`: each key gets the role of that name."""
    return {key: Role[role] for role, names in keys.items() for key in names.split()}


TRAINING = roles(
    MODEL="model_name_or_path",
    DATA="data_path eval_data_path",
    OUTPUT="output_dir",
    CHOICE="conv_template_name deepspeed",
    NAME="format run_name project",
    TEXT="num_workers lora_target_modules metric_for_best_model",
    CLOSED="eval_config resume cache_dir offload_path storage_path trust_remote_code overwrite_output_dir",
)
# Which endpoint is called with whose key is for the platform to say: a user could have it send secrets.
ENGINE = roles(
    MODEL="model_path",
    NAME="model_name",
    CHOICE="template",
    TEXT="num_replicas",
    CLOSED="trust_remote_code base_url api_key_env ray_address serve_app",
)
TRAINED = {"output_dir": "out"}
