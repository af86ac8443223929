"""The config of `autoalign-cli eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from autoalign.config.base import JobConfig
from autoalign.config.engine import Backend

Positive = Annotated[int, Field(gt=0)]
EvalType = Literal["objective_core", "objective_all", "preference", "subjective", "safety"]

_CORE = ("gsm8k", "mmlu", "humaneval", "IFEval", "bbh", "ARC_c", "hellaswag", "truthfulqa")
_MORE = ("math", "mbpp", "cmmlu", "ceval", "gpqa", "humaneval_cn", "mbpp_cn", "agieval")
OBJECTIVE = {
    "objective_core": tuple(f"{name}_gen" for name in _CORE),
    "objective_all": tuple(f"{name}_gen" for name in (*_CORE, *_MORE)),
}
SAFETY = ("xstest", "harmbench", "coconot")


class EvalConfig(JobConfig):
    """Score a model on benchmarks: objective, preference, safety, one's own (see docs/evaluation.md).

    `autoalign-cli eval compare A B` puts models side by side that were evaluated before.
    """

    model_path: str | None = Field(
        None, description="model folder, or ORG/NAME on the hub; with endpoint: the model's id there"
    )
    model_name: str | None = Field(
        None, description="the model's name in tables and folders; none: the last part of model_path"
    )
    template_name: str | None = Field(
        None, description="chat template: a name, a .jinja file, or none: the model's own"
    )
    backend: Literal["vllm", "hf"] = Field(
        "vllm", description="vllm: a server of our own, for the length of the job; hf: transformers"
    )
    endpoint: str | None = Field(
        None, description="URL of a running OpenAI-style server to ask instead, as http://HOST:8000/v1"
    )
    api_key_env: str = Field("OPENAI_API_KEY", description="environment variable with the endpoint's key")

    eval_type: list[EvalType] = Field(
        default_factory=list,
        description="sets of benchmarks: objective_core, objective_all, preference (subjective is the same), "
        "safety; none, with neither datasets nor benchmarks: objective_core",
    )
    datasets: list[str] = Field(
        default_factory=list, description="OpenCompass dataset configs by name, as gsm8k_gen mmlu_ppl"
    )
    benchmarks: list[str] = Field(
        default_factory=list,
        description="own benchmarks: a name, NAME=FILE for its data elsewhere, or a .yaml or .py file",
    )
    data_root: str | None = Field(
        None, description="folder of the data sets, as gsm8k/test.jsonl; none: opencompass_path/data, or data"
    )
    limit: Positive | None = Field(None, description="questions of each data set, from its start; none: all")
    num_runs: Positive = Field(1, description="answers to each question, whose scores are averaged")
    temperature: float | None = Field(
        None,
        ge=0,
        description="0 takes the likeliest token; none: 0, but for the categories of mt_bench and alignbench "
        "whose published answers are drawn at another",
    )
    seed: int = Field(42, ge=0, description="seed of answers, verdicts and drawn samples")
    max_new_tokens: Positive | None = Field(
        None, description="longest answer in tokens; none: each benchmark's own"
    )

    batch_size: Positive = Field(32, description="requests in flight; hf: questions at once")
    per_model_gpu: int = Field(1, ge=0, description="GPUs that share the model, where there are any")
    max_model_len: Positive | None = Field(None, description="context in tokens; none: the model's own")
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "auto", description="number type of the weights"
    )
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1, description="share of a GPU that vLLM takes")
    max_retries: int = Field(5, ge=0, description="how often a request that fails is sent again")
    timeout: float = Field(600.0, gt=0, description="seconds to wait for one answer")
    trust_remote_code: bool = Field(False, description="run Python code that comes with the model folder")

    opencompass_path: str | None = Field(
        None, description="a checkout of OpenCompass whose code and data are used; none: the installed one"
    )
    opencompass_python: str | None = Field(
        None, description="Python of OpenCompass's environment; none: .venv-eval, which is made when absent"
    )

    mt_path: str | None = Field(
        None, description="folder of MT-Bench, with question.jsonl; none: data_root/mt_bench"
    )
    alpaca_path: str | None = Field(
        None, description="baseline answers for alpaca_eval: instruction, output; none: data_root/alpaca_eval"
    )
    arena_path: str | None = Field(
        None, description="baseline answers for arena_hard: prompt, output; none: data_root/arena_hard"
    )
    judge_model: list[str] = Field(
        default_factory=list,
        description="judges: model folders, or ids at judge_base_url; several agree or not",
    )
    judge_backend: Backend = Field(
        "vllm", description="what runs a local judge: vllm, hf; openai: an endpoint"
    )
    judge_base_url: str | None = Field(None, description="the judges' endpoint; makes judge_backend openai")
    judge_api_key_env: str = Field("OPENAI_API_KEY", description="environment variable with the judges' key")
    judge_template: str | None = Field(None, description="chat template of local judges; none: their own")
    judge_max_new_tokens: Positive = Field(1024, description="longest verdict in tokens")
    judge_concurrency: Positive = Field(32, description="verdicts asked for at once")
    judge_prompt: str | None = Field(
        None, description="prompt of pairwise verdicts: a name in autoalign/prompts/judge, or a file"
    )
    judge_guided: bool = Field(
        False,
        description="judges can write nothing but JSON with a verdict: for models that can't keep a form "
        "(judge_backend vllm or openai)",
    )
    safety_by: Literal["rule", "judge", "guard"] = Field(
        "rule",
        description="who tells a refusal: rules; judge_model by a prompt; judge_model as a guard model",
    )
    guard_prompt: str = Field(
        "conversation",
        description="how a guard model is asked: conversation (request and answer as two turns in its own "
        "chat template, as Llama Guard), wildguard, or a file in that one's place",
    )
    reward_model: str | None = Field(None, description="a folder that `rm` wrote, for reward_bench")

    training_data: list[str] = Field(
        default_factory=list, description="files the model was trained on, to be searched for the questions"
    )

    output_dir: str = Field("outputs", description="results go to OUTPUT_DIR/MODEL_ID")
    config_dir: str = Field("configs", description="OpenCompass's config goes to CONFIG_DIR/MODEL_ID.py")
    model_id: str | None = Field(
        None, description="name of this evaluation's folder; none: the model's name and the time"
    )
    force: bool = Field(False, description="throw away what an evaluation of the same model_id left")
    reuse: bool = Field(
        False, description="go on where an evaluation stopped: that of model_id, or the model's latest"
    )

    @field_validator("eval_type", "datasets", "benchmarks", "judge_model", "training_data", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return [value] if isinstance(value, str) else [] if value is None else value

    @field_validator("model_id", "model_name")
    @classmethod
    def _plain_name(cls, value: str | None) -> str | None:
        if value is not None and (not value or "/" in value or value.startswith(".")):
            raise ValueError("a name is expected, without '/' and not beginning with '.'")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.model_path is None:
            raise ValueError("'model_path' is missing: give --model_path or set it in the config file")
        if self.force and self.reuse:
            raise ValueError("'force' and 'reuse' exclude each other: throw away, or go on")
        if self.endpoint is not None and not self.endpoint.startswith(("http://", "https://")):
            raise ValueError(f"'endpoint': http://HOST:PORT/v1 is expected, not '{self.endpoint}'")
        if self.endpoint is not None and self.template_name is not None:
            raise ValueError(
                "'template_name' and 'endpoint' exclude each other: the endpoint's server renders with the "
                "template it was started with; start it with this one, and leave template_name out"
            )
        if self.judge_template is not None and (self.judge_base_url or self.judge_backend == "openai"):
            raise ValueError(
                "'judge_template' is for local judges: an endpoint's server renders by itself; leave it out"
            )
        if self.safety_by != "rule" and not self.judge_model:
            raise ValueError(f"'safety_by: {self.safety_by}' needs judge_model")
        return self

    @property
    def name(self) -> str:
        """The model's name in the output."""
        place = Path(str(self.model_path).rstrip("/"))
        return self.model_name or place.name or place.resolve().name

    @property
    def kinds(self) -> tuple[str, ...]:
        """The sets of benchmarks asked for, objective_core when nothing is."""
        given = self.eval_type or ([] if self.datasets or self.benchmarks else ["objective_core"])
        return tuple("preference" if kind == "subjective" else kind for kind in given)

    @property
    def dataset_names(self) -> tuple[str, ...]:
        """OpenCompass's dataset configs, each once, in the order asked for."""
        sets = [name for kind in self.kinds for name in OBJECTIVE.get(kind, ())]
        return tuple(dict.fromkeys([*sets, *self.datasets]))

    @property
    def benchmark_names(self) -> tuple[str, ...]:
        """Our own benchmarks, each once."""
        paths = {"alpaca_eval": self.alpaca_path, "arena_hard": self.arena_path}
        preference = ("mt_bench", *(name for name, path in paths.items() if path))
        sets = {"preference": preference, "safety": SAFETY}
        given = [name for kind in self.kinds for name in sets.get(kind, ())]
        return tuple(dict.fromkeys([*given, *self.benchmarks]))

    @property
    def data_folder(self) -> Path:
        """Where the data sets are."""
        if self.data_root is not None:
            return Path(self.data_root).expanduser()
        return Path(self.opencompass_path).expanduser() / "data" if self.opencompass_path else Path("data")


class CompareConfig(JobConfig):
    """Models side by side: what `eval` wrote about each, with the significance of the differences."""

    models: list[str] = Field(
        default_factory=list,
        description="two or more: folders of evaluations, or model names in output_dir (the latest is taken)",
    )
    output_dir: str = Field("outputs", description="where the evaluations are")
    report_dir: str | None = Field(None, description="where the report goes; none: OUTPUT_DIR/compare/NAMES")
    level: float = Field(0.95, gt=0.5, lt=1, description="of intervals and significance")
    picture: Literal["bar", "radar"] = Field("bar", description="what to draw")
    seed: int = Field(42, ge=0, description="of the bootstrap")

    @model_validator(mode="after")
    def _two_or_more(self) -> Self:
        if len(self.models) < 2:
            raise ValueError("'models': two or more are expected, as: autoalign-cli eval compare A B")
        return self
