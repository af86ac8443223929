"""Keys that every training job shares; names and meanings as in transformers where it has them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from autoalign.config import acceleration
from autoalign.config.base import JobConfig
from autoalign.config.counts import Count, fewest, most

Positive = Annotated[int, Field(gt=0)]
DataKind = Literal["sft", "preference", "unpaired"]
Fraction = Annotated[float, Field(ge=0, le=1)]


class TrainConfig(JobConfig):
    """Model, data, optimisation, parallelism and files of a training job."""

    job: ClassVar[str] = "train"

    model_name_or_path: str = Field(description="model folder, or ORG/NAME on the Hugging Face hub")
    data_path: list[str] = Field(
        min_length=1, description="training data: files or URLs, each with an optional weight as PATH@2"
    )
    output_dir: str = Field(description="folder for checkpoints, metrics and the final model")

    format: str | None = Field(None, description="data format; told apart by its keys when not given")
    on_bad_row: Literal["stop", "quarantine"] = Field(
        "stop", description="a bad row stops the job, or goes to OUTPUT_DIR/errors.jsonl"
    )
    streaming: bool | None = Field(
        None,
        description="tokenise files block by block into shards, for data larger than memory; "
        "none: where they are over 1 GiB",
    )
    max_train_samples: Positive | None = Field(None, description="train on the first N rows alone")
    conv_template_name: str | None = Field(
        None, description="chat template: a name, a .jinja file, or none for the tokenizer's own"
    )
    model_max_length: Positive = Field(2048, description="longest row, in tokens")
    overlong: Literal["truncate", "drop"] = Field(
        "truncate", description="what happens to a row over model_max_length; counted either way"
    )

    num_train_epochs: float = Field(3.0, gt=0, description="passes over the data")
    max_steps: int = Field(-1, ge=-1, description="optimizer steps; over num_train_epochs when positive")
    learning_rate: float = Field(2e-5, gt=0, description="peak learning rate")
    lr_scheduler_type: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="learning rate after the warm-up"
    )
    warmup_ratio: Fraction = Field(0.03, description="share of the steps that warm up")
    warmup_steps: int = Field(0, ge=0, description="steps that warm up; over warmup_ratio when positive")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's weight decay; none on norms and biases")
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="AdamW's first decay rate")
    adam_beta2: float = Field(0.999, ge=0, lt=1, description="AdamW's second decay rate")
    adam_epsilon: float = Field(1e-8, gt=0, description="AdamW's epsilon")
    max_grad_norm: float = Field(1.0, ge=0, description="clip the gradient's norm to this; 0 for no clipping")
    on_bad_loss: Literal["stop", "skip"] = Field(
        "stop", description="a step whose loss or gradient is not finite, or spikes: end the job, or skip it"
    )
    max_bad_steps: Positive = Field(10, description="bad steps in a row that end the job all the same")
    loss_spike_factor: float | None = Field(
        None, gt=1, description="bad, too: loss or gradient norm over so many times its running median"
    )
    loss_spike_window: Positive = Field(32, description="steps in that median; the rule waits for as many")
    seed: int = Field(42, ge=0, description="data order, adapter weights and dropout follow from it")

    per_device_train_batch_size: Positive = Field(4, description="rows (packed: bins) a worker takes at once")
    per_device_eval_batch_size: Positive = Field(8, description="the same for evaluation")
    gradient_accumulation_steps: Positive = Field(1, description="micro-batches in an optimizer step")
    max_tokens_per_batch: Positive | None = Field(
        None, description="cut a step's rows into micro-batches of at most N tokens; the step's rows stay"
    )
    packing: bool = Field(
        False, description="fill bins of model_max_length tokens with whole rows; rows never see each other"
    )
    group_by_length: bool = Field(True, description="batches of rows of similar length (not with packing)")
    padding_free: bool = Field(
        True, description="lay a batch out as one sequence without padding; false pads to the longest row"
    )

    share_prompts: bool = Field(
        True, description="compute the prompt of a pair's answers once (attn_implementation rows)"
    )

    bf16: bool = Field(True, description="bfloat16 weights and activations, float32 master weights")
    gradient_checkpointing: bool = Field(False, description="recompute activations: less memory, more time")
    gradient_checkpointing_every: Positive = Field(
        1, description="with gradient_checkpointing: recompute every Nth decoder layer alone"
    )
    attn_implementation: Literal["auto", "rows", "sdpa", "eager", "flash_attention_2", "flex_attention"] = (
        Field(
            "auto",
            description="attention kernel; auto: on a GPU flash_attention_2 where installed, else "
            "flex_attention; on a CPU rows (SDPA a row); sdpa and eager pad",
        )
    )
    torch_compile: bool = Field(False, description="compile every decoder layer with torch.compile")
    use_liger_kernel: bool = Field(
        False, description="Liger's fused RMSNorm, RoPE and SwiGLU kernels (a GPU and liger-kernel)"
    )
    load_in_4bit: bool = Field(
        False, description="QLoRA: the frozen base in 4 bits (NF4, double quantisation); needs use_lora"
    )
    load_in_8bit: bool = Field(False, description="the frozen base in 8 bits (LLM.int8); needs use_lora")
    sequence_parallel_size: Positive = Field(
        1, description="workers that share each row (DeepSpeed Ulysses), for long rows; divides num_workers"
    )
    offload_optimizer: Literal["none", "cpu", "nvme"] = Field(
        "none", description="where ZeRO (1 to 3) keeps masters and moments instead of on the GPU"
    )
    offload_param: Literal["none", "cpu", "nvme"] = Field(
        "none", description="where ZeRO-3 keeps weights that are not in use"
    )
    offload_path: str | None = Field(None, description="folder on a fast local disk, for offloading to nvme")
    activation_offload: bool = Field(
        False, description="keep what the backward pass needs in the host's memory instead of on the GPU"
    )
    trust_remote_code: bool = Field(False, description="run Python code that comes with the model folder")

    use_lora: bool = Field(False, description="train a LoRA adapter instead of all weights")
    lora_rank: Positive = Field(16, description="LoRA rank")
    lora_alpha: Positive = Field(32, description="LoRA scale is lora_alpha / lora_rank")
    lora_dropout: Fraction = Field(0.0, description="dropout on the adapter's input")
    lora_target_modules: list[str] = Field(
        default_factory=lambda: ["all-linear"], description="modules that get an adapter"
    )

    deepspeed: str = Field(
        "none", description="none, zero0, zero1, zero2, zero3, or a DeepSpeed JSON file (may hold 'auto')"
    )
    launcher: Literal["ray", "local"] = Field(
        "ray", description="ray: Ray Train workers; local: this process, or torchrun's"
    )
    num_workers: Count = Field(
        1, description="Ray Train workers; MIN:MAX: as many as fit, with the global batch of MAX"
    )
    use_gpu: bool | None = Field(None, description="one GPU a worker; none: when the machine has one")
    cpus_per_worker: Positive | None = Field(
        None, description="CPUs and threads a worker; none: a fair share"
    )
    max_failures: int = Field(
        0, ge=-1, description="restarts from the last checkpoint after a failure; -1: no end"
    )
    schedule_timeout: float = Field(
        1800.0, gt=0, description="seconds to wait for the cluster's resources; what is missing is said"
    )
    hang_timeout: float = Field(
        1800.0, gt=0, description="seconds without progress of any worker after which the job counts as hung"
    )

    eval_data_path: list[str] | None = Field(None, description="evaluation data")
    eval_steps: Positive | None = Field(None, description="evaluate every N steps; none: at the end alone")
    eval_config: str | None = Field(
        None, description="config of `autoalign-cli eval`: checkpoints are evaluated while training goes on"
    )
    eval_every: Positive | None = Field(
        None,
        description="with eval_config: the checkpoints of every N steps, a multiple of save_steps (N where "
        "that is not given); none: each one",
    )
    logging_steps: Positive = Field(1, description="log every N steps")
    report_to: list[Literal["none", "tensorboard", "wandb", "mlflow"]] = Field(
        default_factory=list, description="where figures go beside metrics.jsonl; several are allowed"
    )
    run_name: str | None = Field(
        None, description="the trackers' name for the run; none: output_dir's last folder"
    )
    project: str = Field("autoalign", min_length=1, description="W&B project, MLflow experiment")
    save_steps: Positive | None = Field(
        None,
        validate_default=True,
        description="checkpoint every N steps; none: those of eval_every, or at the end alone",
    )
    save_total_limit: Positive | None = Field(None, description="keep the newest N checkpoints")
    storage_path: str | None = Field(
        None, description="URL (s3://, gs://, ...) or folder that checkpoints and the model are copied to"
    )
    storage_timeout: float = Field(
        300.0, gt=0, description="seconds without headway after which the job's end stops copying there"
    )
    metric_for_best_model: str | None = Field(
        None, description="evaluation figure, such as loss or rewards/accuracies: its best checkpoint is kept"
    )
    greater_is_better: bool | None = Field(
        None, description="whether that figure is better when greater; none: unless its name ends with loss"
    )
    load_best_model_at_end: bool = Field(
        False, description="the final model is the best checkpoint (by loss when no metric is given)"
    )
    async_save: bool = Field(
        True, description="write checkpoints beside training, from a copy in memory where there is room"
    )
    resume: str = Field(
        "auto", description="auto: go on from OUTPUT_DIR's last checkpoint; never; or a checkpoint's path"
    )
    overwrite_output_dir: bool = Field(False, description="delete another run's files in OUTPUT_DIR first")
    cache_dir: str | None = Field(
        None, description="tokenised data is kept here (default: ~/.cache/autoalign)"
    )

    @property
    def min_workers(self) -> int:
        """The fewest workers that the job may go on with."""
        return fewest(self.num_workers)

    @property
    def max_workers(self) -> int:
        """The workers that the job asks for; the global batch is theirs, however many there are."""
        return most(self.num_workers)

    def micro_batches(self, world_size: int) -> int:
        """Micro-batches in a step over all workers: those of `max_workers`, or of torchrun's processes.

        `sequence_parallel_size` workers count as one, here and in `accumulation`.
        """
        sharing = max(self.max_workers, world_size) // self.sequence_parallel_size
        return self.gradient_accumulation_steps * sharing

    def accumulation(self, world_size: int) -> int:
        """Micro-batches in a step of each of `world_size` workers, of which some may be empty."""
        sharing = max(1, world_size // self.sequence_parallel_size)
        return math.ceil(self.micro_batches(world_size) / sharing)

    @property
    def steps_per_batch(self) -> int:
        """Optimizer steps on the same examples before the next ones."""
        return 1

    @property
    def data_kind(self) -> DataKind:
        """Which rows it learns from."""
        return "sft"

    @property
    def learns_from_pairs(self) -> bool:
        """Its rows are preference pairs."""
        return self.data_kind == "preference"

    @field_validator("save_steps")
    @classmethod
    def _what_is_evaluated_is_saved(cls, value: int | None, info: ValidationInfo) -> int | None:
        return info.data.get("eval_every") if value is None else value

    @field_validator("report_to", mode="before")
    @classmethod
    def _one_tracker_or_none(cls, value: Any) -> Any:
        """A single name may stand without a list, and `none` is an empty one."""
        names = [value] if isinstance(value, str) else value
        return [] if names is None or names == ["none"] else names

    @field_validator("report_to")
    @classmethod
    def _none_stands_alone(cls, value: list[str]) -> list[str]:
        if "none" in value:
            raise ValueError("none stands alone")
        return list(dict.fromkeys(value))

    @model_validator(mode="after")
    def _check_deepspeed(self) -> TrainConfig:
        names = ("none", "zero0", "zero1", "zero2", "zero3")
        if self.deepspeed not in names and not self.deepspeed.endswith(".json"):
            raise ValueError(
                f"'deepspeed': '{self.deepspeed}' is none of {', '.join(names)}, nor a .json file"
            )
        if self.deepspeed.endswith(".json") and not Path(self.deepspeed).is_file():
            raise ValueError(f"'deepspeed': no such file: {self.deepspeed}")
        return self

    @model_validator(mode="after")
    def _check_launcher(self) -> TrainConfig:
        if self.launcher == "local" and self.num_workers != 1:
            raise ValueError(
                "'num_workers' is for launcher ray; with launcher local, start the command with "
                f"torchrun --nproc_per_node {self.max_workers} -m autoalign.cli COMMAND"
            )
        if self.launcher == "local" and self.max_failures:
            raise ValueError("'max_failures' is for launcher ray; run the command again to go on instead")
        return self

    @model_validator(mode="after")
    def _check_best(self) -> TrainConfig:
        asked = "load_best_model_at_end" if self.load_best_model_at_end else "metric_for_best_model"
        if not (self.load_best_model_at_end or self.metric_for_best_model):
            return self
        if not self.eval_steps or not self.save_steps:
            raise ValueError(f"'{asked}' needs 'eval_data_path', 'eval_steps' and 'save_steps'")
        if self.save_steps % self.eval_steps:
            raise ValueError(
                f"'{asked}' evaluates each checkpoint: 'save_steps' ({self.save_steps}) has to be a "
                f"multiple of 'eval_steps' ({self.eval_steps})"
            )
        return self

    @model_validator(mode="after")
    def _check_eval_every(self) -> TrainConfig:
        if self.eval_every and self.eval_config is None:
            raise ValueError("'eval_every' is given without 'eval_config'")
        if self.eval_every and self.save_steps and self.eval_every % self.save_steps:
            raise ValueError(
                f"'eval_every' ({self.eval_every}) has to be a multiple of 'save_steps' ({self.save_steps}): "
                "it evaluates checkpoints; without 'save_steps' they are written as often"
            )
        return self

    @model_validator(mode="after")
    def _check_layout(self) -> TrainConfig:
        if self.packing and not self.padding_free:
            raise ValueError("'packing' needs 'padding_free': packed rows are told apart without padding")
        if self.packing and self.attn_implementation in ("sdpa", "eager"):
            raise ValueError(
                f"'packing' with attn_implementation '{self.attn_implementation}' would let rows see others; "
                "use auto, rows, flash_attention_2 or flex_attention"
            )
        if self.attn_implementation == "rows" and not self.padding_free:
            raise ValueError("'attn_implementation' rows needs 'padding_free': it attends row by row")
        if self.packing and self.max_tokens_per_batch:
            raise ValueError(
                "'max_tokens_per_batch' is for rows as they are; "
                "with packing a bin holds model_max_length tokens"
            )
        if self.attn_implementation == "flex_attention" and not self.padding_free:
            raise ValueError("'attn_implementation' flex_attention needs 'padding_free': it tells rows apart")
        if self.streaming and self.max_train_samples:
            raise ValueError("'max_train_samples' reads the first rows alone, so there is nothing to stream")
        if self.eval_steps and not self.eval_data_path:
            raise ValueError("'eval_steps' is given without 'eval_data_path'")
        return self

    @model_validator(mode="after")
    def _check_acceleration(self) -> TrainConfig:
        acceleration.check(self)
        return self
