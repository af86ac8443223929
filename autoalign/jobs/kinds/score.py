"""Scoring: reward model, LLM judge, verifiers."""

from autoalign.config.score import ScoreConfig
from autoalign.jobs.kinds._keys import roles
from autoalign.jobs.kinds._kind import Kind

_KEYS = roles(
    MODEL="model_path judge_model tokenizer",
    DATA="data_path schema_file",
    OUTPUT="output_file",
    CHOICE="template judge_template judge_prompt refusal_rules",
    NAME="scorer format languages extract unit judge_mode",
    TEXT="reference_key tests_key pattern",
    CLOSED="trust_remote_code judge_base_url judge_api_key_env",
)
KIND = Kind(ScoreConfig, "score", _KEYS, {"output_file": "out/scores.jsonl"})
