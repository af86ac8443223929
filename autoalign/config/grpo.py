"""Config of a GRPO job."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

import yaml
from pydantic import Field, field_validator, model_validator

from autoalign.config.score import ScoreConfig
from autoalign.config.train import TrainConfig
from autoalign.errors import ConfigError

Positive = Annotated[int, Field(gt=0)]


class GRPOConfig(TrainConfig):
    """Train a model on its own answers to prompts, by rewards that can be checked (GRPO)."""

    job: ClassVar[str] = "grpo"

    data_path: list[str] = Field(
        min_length=1, description="prompts, as for infer; their answers are the rewards' references"
    )
    learning_rate: float = Field(1e-6, gt=0, description="peak learning rate")
    num_train_epochs: float = Field(1.0, gt=0, description="passes over the prompts")
    per_device_train_batch_size: Positive = Field(8, description="answers a worker takes at once")
    gradient_accumulation_steps: Positive = Field(
        4, description="micro-batches in a step; a step's answers are num_generations to each prompt"
    )

    reward: list[str] = Field(
        default_factory=lambda: ["numeric"],
        min_length=1,
        description="what scores answers: one or several of `score`'s scorers: numeric, math, regex, ...",
    )
    reward_weights: list[float] | None = Field(None, description="one a reward; none: each counts 1")
    reward_options: dict[str, Any] = Field(
        default_factory=dict, description="options of the rewards, such as {unit: words, longest: 20}"
    )
    num_generations: int = Field(8, ge=2, description="answers to each prompt: the group")
    max_completion_length: Positive = Field(256, description="longest answer, in tokens")
    temperature: float = Field(
        1.0, gt=0, description="of the answers; the loss looks at the same distribution"
    )
    system_message: str | None = Field(None, description="takes the place of the prompts' own")
    scale_rewards: Literal["group", "batch", "none"] = Field(
        "group", description="whose standard deviation advantages are divided by; none: Dr. GRPO"
    )

    loss_type: Literal["grpo", "dapo", "bnpo", "dr_grpo"] = Field(
        "dapo", description="how tokens are weighed: see docs/losses.md"
    )
    epsilon: float = Field(0.2, gt=0, lt=1, description="the ratio is clipped at 1 - epsilon, 1 + epsilon")
    epsilon_high: float | None = Field(None, gt=0, description="upper bound of its own; none: epsilon")
    beta: float = Field(
        0.0, ge=0, description="weight of the KL to the model at its start; 0: none is loaded"
    )
    importance_sampling_level: Literal["token", "sequence"] = Field(
        "token", description="the ratio is each token's, or the whole answer's (GSPO)"
    )
    num_iterations: Positive = Field(1, description="optimizer steps on the same answers")
    mask_truncated_completions: bool = Field(
        False, description="learn nothing from answers that were cut off"
    )
    importance_sampling_cap: float | None = Field(
        3.0, gt=0, description="tokens weigh trainer's over engine's probability, up to this; none: 1"
    )

    backend: Literal["vllm", "hf"] = Field("vllm", description="what answers: vllm, or hf (transformers)")
    tensor_parallel_size: Positive = Field(1, description="GPUs that share each layer of the engine")
    gpu_memory_utilization: float = Field(
        0.3, gt=0, le=1, description="share of a GPU's memory that vLLM takes, beside the trainer"
    )
    enforce_eager: bool | None = Field(None, description="start vLLM without compiling; none: true on a CPU")
    sleep_level: Literal[0, 1, 2] = Field(
        0, description="while it trains, vLLM keeps its weights on the host (1) or not at all (2); GPUs alone"
    )
    handover_dir: str | None = Field(
        None, description="folder that new weights go to the engine through; none: shared memory"
    )
    eval_on_start: bool = Field(False, description="evaluate before the first step, too")
    log_completions: bool = Field(False, description="keep the answers in OUTPUT_DIR/completions")

    @property
    def steps_per_batch(self) -> int:
        return self.num_iterations

    def prompts_per_step(self, world_size: int) -> int:
        """Prompts whose answers make a step over all workers."""
        answers = self.per_device_train_batch_size * self.micro_batches(world_size)
        return max(1, answers // self.num_generations)

    @property
    def scoring(self) -> ScoreConfig:
        """The rewards as `score` knows them; raises ConfigError for an option that is wrong."""
        given = {"scorer": self.reward, "weights": self.reward_weights, **self.reward_options}
        return ScoreConfig.build({**given, "data_path": ["unused.jsonl"], "output_file": "unused.jsonl"})

    @field_validator("reward", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @field_validator("reward_options", mode="before")
    @classmethod
    def _mapping(cls, value: object) -> object:
        """A flag gives a mapping as YAML: `--reward_options '{unit: words, longest: 20}'`."""
        found = yaml.safe_load(value) if isinstance(value, str) else value
        if not isinstance(found, dict):
            raise ValueError("a mapping is expected, such as {unit: words, longest: 20}")
        return found

    @model_validator(mode="after")
    def _check_rewards(self) -> Self:
        if self.reward_weights is not None and len(self.reward_weights) != len(self.reward):
            raise ValueError(
                f"'reward_weights': one a reward is expected, {len(self.reward)}, "
                f"not {len(self.reward_weights)}"
            )
        try:
            _ = self.scoring
        except ConfigError as error:
            raise ValueError(f"'reward_options': {error}") from None
        return self

    @model_validator(mode="after")
    def _check_groups(self) -> Self:
        answers = self.per_device_train_batch_size * self.micro_batches(world_size=1)
        if answers % self.num_generations:
            raise ValueError(
                f"'num_generations' ({self.num_generations}) has to divide a step's answers, "
                f"per_device_train_batch_size * gradient_accumulation_steps * num_workers = {answers}"
            )
        if self.num_iterations > 1 and self.save_steps and self.save_steps % self.num_iterations:
            raise ValueError(
                f"'save_steps' ({self.save_steps}) has to be a multiple of 'num_iterations' "
                f"({self.num_iterations}): checkpoints are written between groups of answers"
            )
        return self

    @model_validator(mode="after")
    def _check_what_grpo_lacks(self) -> Self:
        for key, meaning in (
            ("packing", "answers are laid out without padding as they are"),
            ("streaming", "prompts are read whole"),
            ("load_in_4bit", "the engine takes whole weights"),
            ("load_in_8bit", "the engine takes whole weights"),
        ):
            if getattr(self, key):
                raise ValueError(f"'{key}' is not for grpo: {meaning}")
        if self.loss_type == "bnpo" and self.max_tokens_per_batch:
            raise ValueError("'max_tokens_per_batch' would decide what bnpo divides by: use dapo")
        if self.sequence_parallel_size > 1:
            raise ValueError("'sequence_parallel_size' is for sft and dpo")
        return self
