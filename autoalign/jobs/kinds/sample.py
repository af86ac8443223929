"""Sampling: answers to a file of prompts."""

from autoalign.config.sample import InferConfig
from autoalign.jobs.kinds._keys import ENGINE, roles
from autoalign.jobs.kinds._kind import Kind

_KEYS = roles(
    MODEL="models user_model",
    DATA="test_file system_message_file few_shot_path json_schema user_prompt",
    NAME="source",
    TEXT="system_message stop shard user_system_message",
    CLOSED="user_base_url",
    OUTPUT="output_dir output_file",
)
KIND = Kind(InferConfig, "infer", ENGINE | _KEYS, {"output_dir": "out"})
