"""`grpo` in the alignment loop: which training job a round runs, and on what rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from autoalign import formats
from autoalign.algorithms import Prompt, Question
from autoalign.alignment.data import _row
from autoalign.alignment.planning import _answered
from autoalign.config.align import AlignConfig
from autoalign.config.grpo import GRPOConfig
from autoalign.records import Message


def config(**keys: Any) -> AlignConfig:
    values = {"model_name_or_path": "m", "output_dir": "o", "algorithm": "grpo", "prompt_path": ["p"], **keys}
    return AlignConfig.build({"verifier": "length", "verifier_options": {"longest": 9}, **values})


def test_a_rounds_training_is_a_grpo_job_whose_reward_is_the_verifier() -> None:
    job = config(max_new_tokens=33, training={"num_generations": 4}).train_config(1, "model", ["d"], "out")
    assert isinstance(job, GRPOConfig)
    assert (job.reward, job.reward_options) == (["length"], {"longest": 9})
    assert (job.max_completion_length, job.num_generations, job.beta) == (33, 4, 0.04)


def test_training_may_name_rewards_of_its_own() -> None:
    own = {"reward": ["numeric", "length"], "reward_weights": [1.0, 0.1], "reward_options": {}}
    job = config(training=own).train_config(1, "model", ["d"], "out")
    assert isinstance(job, GRPOConfig) and job.reward == ["numeric", "length"]


def test_a_prompts_row_is_read_back_with_its_reference(tmp_path: Path) -> None:
    prompt = Prompt("a", (Message("user", "2 + 2?"),), reference="4")
    row = _row(Question("a", "a", prompt.messages, "4", "every prompt is taken"), {"round": 1})
    (tmp_path / "data.jsonl").write_text(json.dumps(row) + "\n")
    (read,) = formats.load(tmp_path / "data.jsonl", purpose="prompts").conversations
    assert read.messages == prompt.messages
    assert read.extra["reference"] == "4"


def test_the_plan_counts_the_answers_of_the_training() -> None:
    """64 prompts, 8 answers each; then 10 steps of 4 prompts."""
    assert _answered(config().train_config(1, "m", ["d"], "o"), 64) == 64 * 8
    limited = config(training={"max_steps": 10}).train_config(1, "m", ["d"], "o")
    assert _answered(limited, 64) == 10 * 4 * 8
