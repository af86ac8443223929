"""The config of an alignment job (`autoalign-cli align`, `ray_jobs/align.py`)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import yaml
from pydantic import Field, ValidationInfo, field_validator, model_validator

from autoalign.config.base import JobConfig
from autoalign.config.dpo import DPOConfig
from autoalign.config.engine import Backend
from autoalign.config.grpo import GRPOConfig
from autoalign.config.sft import SFTConfig
from autoalign.config.synthesize import SynthesizeConfig
from autoalign.config.train import TrainConfig
from autoalign.errors import ConfigError

if TYPE_CHECKING:
    from autoalign.algorithms import Algorithm

Positive = Annotated[int, Field(gt=0)]
Promotion = Literal["significant", "better", "not_worse", "always"]
ROLES = ("policy", "judge", "strong", "weak", "generator", "held_out_judge")
_JOBS: dict[str, type[TrainConfig]] = {"examples": SFTConfig, "pairs": DPOConfig, "prompts": GRPOConfig}
_OWN_TRAINING = ("model_name_or_path", "data_path", "output_dir")
_LISTS = ("prompt_path", "held_out_path", "benchmark_path", "principles", "promote_when")
_MAPPINGS = ("options", "models", "engine", "training", "verifier_options", "benchmark_options")


class AlignConfig(JobConfig):
    """Align a model over rounds: sample, judge, build data, train, evaluate, and promote what is better."""

    model_name_or_path: str = Field(description="the model to start from: a folder, or ORG/NAME on the hub")
    output_dir: str = Field(
        description="folder for stages, models and figures; the same command goes on in it"
    )
    algorithm: str = Field(description="a file of autoalign/algorithms: rlcd, self_rewarding, rft, ...")
    options: dict[str, Any] = Field(
        default_factory=dict, description="the algorithm's own options; what is left out is the paper's"
    )
    round_options: list[dict[str, Any]] = Field(
        default_factory=list, description="options of the first, second, ... round, over 'options'"
    )
    rounds: Positive = Field(1, description="rounds to run")

    prompt_path: list[str] = Field(description="prompts, or conversations whose last answer is a person's")
    format: str | None = Field(None, description="data format; told apart by its keys when not given")
    limit: Positive | None = Field(None, description="take only the first prompts")
    prompts_per_round: Positive | None = Field(
        None, description="prompts of a round, the next ones each time; none: all of them in every round"
    )
    carry_rounds: int = Field(
        0, ge=0, description="train on the data of so many earlier rounds of the same kind as well"
    )
    principles: list[str] = Field(
        default_factory=list, description="rules that answers are to follow, for algorithms that take any"
    )
    principles_path: str | None = Field(None, description="text file with a principle a line")
    prompts_dir: str | None = Field(
        None, description="folder whose NAME.txt take the place of autoalign/prompts/algorithms/ALGORITHM's"
    )

    models: dict[str, Any] = Field(
        default_factory=dict,
        description="who plays judge, strong, weak, held_out_judge: a model folder, or engine keys such as "
        "{backend: openai, model_path: ID, base_url: URL}; left out: the policy (strong: the first model; "
        "held_out_judge: nobody, and the first model where no model_path is given)",
    )
    backend: Backend = Field("vllm", description="what generates: vllm, hf (transformers), openai")
    num_replicas: Positive = Field(
        1, description="engines at work at the same time, and workers of a training that names none"
    )
    template: str | None = Field(None, description="chat template; none: the tokenizer's own")
    temperature: float = Field(1.0, ge=0, description="where the algorithm does not set its own")
    top_p: float = Field(1.0, gt=0, le=1, description="where the algorithm does not set its own")
    max_new_tokens: Positive = Field(512, description="longest answer, in tokens")
    engine: dict[str, Any] = Field(
        default_factory=dict, description="more keys of `synthesize`'s engine: tensor_parallel_size, dtype"
    )
    side_by_side: bool = Field(
        False,
        description="the engines of all roles stay up, beside a training too: for clusters with room for it; "
        "off: one model's engines at a time, and none while a model trains",
    )
    ray_address: str | None = Field(None, description="Ray cluster; none: RAY_ADDRESS, else one of its own")
    judge_tries: Positive = Field(3, description="how often a judge is asked until it can be read")
    judge_guided: bool = Field(
        False,
        description="judges can write nothing but JSON with a verdict: for models that can't keep a form",
    )
    seed: int = Field(42, ge=0, description="decides every draw")

    verifier: str | None = Field(
        None, description="scorer that says what is right (1) or wrong (0): numeric, math, regex, length, ..."
    )
    verifier_options: dict[str, Any] = Field(default_factory=dict, description="that scorer's options")
    reward_model: str | None = Field(None, description="reward model's folder, for algorithms that take one")

    training: dict[str, Any] = Field(
        default_factory=dict,
        description="keys of `sft`, `dpo` or `grpo`, over those of the algorithm; launcher, where left out: "
        "local for one worker where no cluster is named, else ray with num_replicas workers",
    )

    held_out_path: list[str] = Field(
        default_factory=list, description="prompts to evaluate on; none: the last 'held_out' of prompt_path"
    )
    held_out: Positive = Field(50, description="prompts held out, or taken of held_out_path")
    metric: Literal["verifier", "judge"] = Field(
        "verifier", description="verifier: share of right answers; judge: win rate against the policy"
    )
    metric_judge: str = Field("judge", description="role that judges in the evaluation")
    held_out_judge_prompt: str = Field(
        "pairwise",
        description="judge prompt of 'held_out_judge': a name in autoalign/prompts/judge, or a file",
    )
    benchmark_path: list[str] = Field(
        default_factory=list,
        description="a fixed benchmark that must not be forgotten: questions with answers",
    )
    benchmark_verifier: str = Field("numeric", description="scorer of the benchmark's answers")
    benchmark_options: dict[str, Any] = Field(default_factory=dict, description="that scorer's options")
    benchmark_limit: Positive = Field(100, description="its questions")
    promote_when: list[Promotion] = Field(
        ["significant"],
        min_length=1,
        description="significant: the interval of the gain lies above 0, and an exact test agrees; better: "
        "the gain lies above 0; not_worse: the interval reaches 0; always; or a list: of the first, second, "
        "... round and those after",
    )
    max_forgetting: float | None = Field(
        0.0,
        ge=0,
        le=1,
        description="no promotion where the benchmark falls by more, its whole interval; none: a warning",
    )
    on_worse: Literal["stop", "continue"] = Field(
        "stop", description="a round that is not promoted: end, or go on from the policy before it"
    )

    @field_validator(*_LISTS, mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @field_validator(*_MAPPINGS, mode="before")
    @classmethod
    def _mapping(cls, value: object, info: ValidationInfo) -> object:
        """A flag gives a mapping as YAML: `--options '{samples: 8}'`."""
        found = yaml.safe_load(value) if isinstance(value, str) else value
        if not isinstance(found, dict):
            raise ValueError("a mapping is expected, such as {samples: 8}")
        return found

    @field_validator("round_options", mode="before")
    @classmethod
    def _mappings(cls, value: object) -> object:
        given = value if isinstance(value, list) else [value]
        return [yaml.safe_load(each) if isinstance(each, str) else each for each in given]

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        unknown = set(self.models) - set(ROLES[1:])
        if unknown:
            raise ValueError(f"'models': no role '{min(unknown)}'; there are: {', '.join(ROLES[1:])}")
        if self.metric_judge not in ROLES:
            raise ValueError(f"'metric_judge': no role '{self.metric_judge}'; there are: {', '.join(ROLES)}")
        if self.principles and self.principles_path:
            raise ValueError("'principles' and 'principles_path': give one of them")
        if self.metric == "verifier" and self.verifier is None:
            raise ValueError("'metric' verifier needs a 'verifier'; or set metric: judge")
        own = next((key for key in _OWN_TRAINING if key in self.training), None)
        if own is not None:
            raise ValueError(f"'training': {own} is the job's own; leave it out")
        try:
            for number in range(1, self.rounds + 1):
                self.train_config(number, "model", ["data.jsonl"], "out")
            self.engine_config("model")
            for role in self.models:
                self.engine_config("model", role)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self

    def algorithm_options(self, number: int) -> dict[str, Any]:
        """The options of a round, from 1."""
        own = self.round_options[number - 1] if number <= len(self.round_options) else {}
        return {**self.options, **own}

    def built(self, number: int) -> Algorithm:
        """The algorithm of a round, from 1, with its options; raises ConfigError for wrong ones."""
        from autoalign import algorithms

        return algorithms.build(self.algorithm, **self.algorithm_options(number))

    def promotion(self, number: int) -> Promotion:
        """What a round, from 1, is promoted by."""
        return self.promote_when[min(number, len(self.promote_when)) - 1]

    def train_config(self, number: int, model: str, data: list[str], output: str) -> TrainConfig:
        """The training job of a round; raises ConfigError for keys that it lacks."""
        built = self.built(number)
        places = {"model_name_or_path": model, "data_path": data, "output_dir": output}
        own: dict[str, Any] = {"conv_template_name": self.template} if self.template else {}
        own |= self._answering() if built.makes == "prompts" else {}
        given = {**built.training, **self.training}
        settings = {"seed": self.seed, **own, **self._launching(given), **given, **places}
        return _JOBS[built.makes].build(settings)

    def _launching(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Where a training runs whose settings do not say so: as `infer` decides it for engines."""
        if "launcher" in given:
            return {}
        workers = given.get("num_workers", self.num_replicas)
        named = self.ray_address is not None or "RAY_ADDRESS" in os.environ
        if str(workers) == "1" and not named and not given.get("max_failures"):
            return {"launcher": "local"}
        return {"launcher": "ray", "num_workers": workers}

    def _answering(self) -> dict[str, Any]:
        """Of a job that answers prompts itself: what scores the answers, and how they are drawn."""
        found: dict[str, Any] = {
            "temperature": self.temperature or 1.0,
            "max_completion_length": self.max_new_tokens,
            "backend": self.backend if self.backend in ("vllm", "hf") else "vllm",
        }
        if self.verifier is not None:
            found |= {"reward": [self.verifier], "reward_options": self.verifier_options}
        return found

    def engine_config(self, model: str, role: str = "policy") -> SynthesizeConfig:
        """What generates as `role`; raises ConfigError for keys that it lacks."""
        given = self.models.get(role)
        keys = {"model_path": given} if isinstance(given, str) else dict(given or {})
        values = {
            "backend": self.backend,
            "num_replicas": self.num_replicas,
            "template": self.template,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_new_tokens": self.max_new_tokens,
            "seed": self.seed,
            "ray_address": self.ray_address,
            **self.engine,
            "model_path": model,
            **keys,
            "method": "align",
            "output_file": "unused.jsonl",
        }
        return SynthesizeConfig.build(values)
