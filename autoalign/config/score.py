"""The config of `autoalign-cli score`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from autoalign.config.base import JobConfig
from autoalign.config.engine import Backend

Positive = Annotated[int, Field(gt=0)]

_SCORER_OPTIONS = (
    *("reference_key", "tolerance", "extract", "timeout"),
    *("tests_key", "memory_mb", "num_workers"),
    *("pattern", "schema_file", "unit", "tokenizer", "shortest", "longest"),
    *("languages", "refusal_rules"),
    *("judge_mode", "judge_prompt", "judge_model", "judge_backend", "judge_base_url", "judge_api_key_env"),
    *("judge_template", "judge_temperature", "judge_max_new_tokens", "judge_concurrency", "judge_tries"),
    *("judge_rounds", "judge_seed", "judge_fresh"),
)


class ScoreConfig(JobConfig):
    """Score every answer of a file: reward model, LLM judge, or verifiers (see docs/scoring.md)."""

    scorer: list[str] = Field(
        default_factory=lambda: ["reward_model"],
        min_length=1,
        description="one or several of reward_model, judge, numeric, math, exact, choice, code, regex, "
        "json_schema, length, language, refusal",
    )
    data_path: list[str] = Field(
        min_length=1, description="conversations, preference pairs, or what infer wrote; one or several files"
    )
    output_file: str = Field(description="JSONL: the rows as they are, in their order, with their scores")
    overwrite: bool = Field(False, description="replace an output file that exists")
    format: str | None = Field(None, description="data format; told apart by its keys when not given")
    weights: list[float] | None = Field(
        None, description="one a scorer: adds the score `combined`, their weighted sum"
    )
    max_error_rate: float = Field(
        0.1, ge=0, le=1, description="exit code 1 when a larger share of the rows can't be scored"
    )

    model_path: str | None = Field(
        None, description="reward_model: a folder that `rm` wrote, or ORG/NAME on the hub"
    )
    template: str | None = Field(
        None, description="reward_model: chat template, a name, a .jinja file, or none: the tokenizer's own"
    )
    batch_size: Positive = Field(16, description="reward_model: answers that are scored at once")
    max_length: Positive | None = Field(
        None,
        description="reward_model: tokens of a conversation, cut off at its end; none: the model's context",
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="reward_model: type of the weights; auto: bfloat16 on a GPU, float32 on a CPU"
    )
    use_gpu: bool | None = Field(
        None, description="reward_model: score on a GPU; none: when the machine has one"
    )
    attn_implementation: Literal["auto", "rows", "sdpa", "eager", "flash_attention_2"] = Field(
        "auto", description="reward_model: attention kernel, as in training; sdpa and eager pad"
    )
    trust_remote_code: bool = Field(
        False, description="reward_model, judge: run Python code that comes with the model folder"
    )

    reference_key: str | None = Field(
        None,
        description="numeric, math, exact, choice: where a row holds the right answer, as extra.answer; "
        "none: usual ones",
    )
    tolerance: float | None = Field(None, ge=0, description="numeric: relative tolerance; none: 1e-6")
    extract: str | None = Field(
        None, description="numeric: where the number is: auto, boxed, hashes (####), last; none: auto"
    )
    timeout: float | None = Field(
        None, gt=0, description="math, code, regex: seconds for one answer; none: the scorer's own"
    )
    tests_key: str | None = Field(
        None, description="code: where a row holds its tests; none: tests, test_list, test, also under extra"
    )
    memory_mb: Positive | None = Field(None, description="code: memory of one program, in MB; none: 1024")
    num_workers: Positive | None = Field(None, description="code: programs at once; none: one a CPU")
    pattern: str | None = Field(None, description="regex: the regular expression to look for")
    schema_file: str | None = Field(None, description="json_schema: the schema; none: any JSON will do")
    unit: str | None = Field(None, description="length: tokens, characters, words; none: characters")
    tokenizer: str | None = Field(None, description="length: model folder or hub name, for tokens")
    shortest: Annotated[int, Field(ge=0)] | None = Field(
        None, description="length: least that is right, scored 1 or 0; none: no bound"
    )
    longest: Annotated[int, Field(ge=0)] | None = Field(
        None, description="length: most that is right, scored 1 or 0; none: no bound"
    )
    languages: list[str] | None = Field(
        None, description="language: codes that are right, as en zh; none: the prompt's own language"
    )
    refusal_rules: list[str] | None = Field(
        None, description="refusal: languages (en, zh) or files of rules; none: all languages"
    )

    judge_mode: str | None = Field(
        None, description="judge: rubric (1 to 10) or pairwise (both orders); none: rubric"
    )
    judge_prompt: str | None = Field(
        None, description="judge: a name in autoalign/prompts/judge, or a .jinja file; none: the mode's own"
    )
    judge_model: str | None = Field(
        None, description="judge: model folder, or the model's id at the endpoint"
    )
    judge_backend: Backend | None = Field(None, description="judge: vllm, hf, openai; none: vllm")
    judge_base_url: str | None = Field(None, description="judge: the endpoint, with judge_backend openai")
    judge_api_key_env: str | None = Field(
        None, description="judge: environment variable with the endpoint's key; none: OPENAI_API_KEY"
    )
    judge_template: str | None = Field(None, description="judge: chat template; none: the tokenizer's own")
    judge_temperature: Annotated[float, Field(ge=0)] | None = Field(
        None, description="judge: none: 0, the likeliest token"
    )
    judge_max_new_tokens: Positive | None = Field(
        None, description="judge: longest verdict; none: 512 tokens"
    )
    judge_concurrency: Positive | None = Field(None, description="judge: verdicts at once; none: 32")
    judge_tries: Positive | None = Field(
        None, description="judge: how often a verdict that can't be read is asked for; none: 3"
    )
    judge_rounds: Positive | None = Field(
        None, description="judge: pairwise, opponents of each answer; none: all others to the same prompt"
    )
    judge_seed: Annotated[int, Field(ge=0)] | None = Field(
        None, description="judge: seed of the verdicts and of who meets whom; none: 42"
    )
    judge_fresh: bool | None = Field(
        None, description="judge: ask again for verdicts that OUTPUT.verdicts.jsonl holds; none: false"
    )

    @field_validator("data_path", "scorer", "languages", "refusal_rules", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @property
    def scorer_options(self) -> dict[str, Any]:
        """What was given for the scorers; the rest are their own defaults."""
        return {name: getattr(self, name) for name in _SCORER_OPTIONS if getattr(self, name) is not None}

    @model_validator(mode="after")
    def _check_scorers(self) -> ScoreConfig:
        if "reward_model" in self.scorer and self.model_path is None:
            raise ValueError("'model_path' is missing: the reward_model scorer needs a reward model")
        if self.weights is not None and len(self.weights) != len(self.scorer):
            raise ValueError(
                f"'weights': one a scorer is expected, {len(self.scorer)}, not {len(self.weights)}"
            )
        return self
