"""The config of a sampling job (`autoalign-cli infer`, `ray_jobs/sample.py`)."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from autoalign.config.engine import Backend, EngineConfig

# What may be swept, with the least and the highest value; the least one is open where it is a string.
_BOUNDS: dict[str, tuple[float | str, float]] = {
    "temperature": (0, inf),
    "top_p": ("0", 1),
    "top_k": (-1, inf),
    "min_p": (0, 1),
    "repetition_penalty": ("0", inf),
}
_OF_THE_USER = (
    *("user_model", "user_backend", "user_base_url"),
    *("user_system_message", "user_prompt", "user_temperature"),
)


class InferConfig(EngineConfig):
    """Answer a file of prompts with a model: Ray Data over vLLM, transformers or an endpoint."""

    models: list[str] = Field(
        default_factory=list,
        description="several models, one after the other, in place of model_path; each has an output folder",
    )
    test_file: list[str] = Field(description="prompts: one or several files, ShareGPT, messages or prompts")
    source: str | None = Field(None, description="label of these answers; none: the model's name")
    system_message: str | list[str] | None = Field(
        None, description="system message in place of every prompt's own; several: every prompt with each"
    )
    system_message_file: str | None = Field(
        None, description="text file with a system message, or principle, a line: every prompt with each"
    )
    few_shot_path: list[str] = Field(
        default_factory=list, description="conversations shown in front of each prompt, drawn by seed and id"
    )
    few_shot: int = Field(3, ge=1, description="how many of them a prompt is shown")
    few_shot_sets: int = Field(1, ge=1, description="draws of them: every prompt with each")

    output_dir: str = Field(
        "outputs", description="folder; answers go to OUTPUT_DIR/MODEL_NAME/SOURCE_TESTFILE.jsonl"
    )
    output_file: str | None = Field(
        None, description="another file name inside OUTPUT_DIR/MODEL_NAME, or a path with a slash"
    )
    output_format: Literal["jsonl", "sharegpt"] = Field(
        "jsonl",
        description="jsonl: one row an answer, with its figures; sharegpt: id, conversations, source",
    )
    overwrite: bool = Field(
        False, description="drop answers in OUTPUT_FILE that this job does not ask for; the others stay"
    )
    fresh: bool = Field(False, description="make every answer again, also those in OUTPUT_FILE")

    n: int = Field(1, ge=1, description="answers for each prompt")
    temperature: float | list[float] = Field(
        0.0, description="0 takes the likeliest token; higher is more varied; several values: each of them"
    )
    top_p: float | list[float] = Field(
        1.0, description="sample from the smallest set of tokens with this probability; or several values"
    )
    top_k: int | list[int] = Field(
        0, description="sample from this many likeliest tokens, 0 or -1: all; or several values"
    )
    min_p: float | list[float] = Field(
        0.0, description="leave out tokens under this share of the likeliest one's; or several values"
    )
    repetition_penalty: float | list[float] = Field(
        1.0, description="above 1 makes tokens already seen less likely; or several values"
    )
    max_new_tokens: int = Field(1024, ge=1, description="longest answer, in tokens")
    seed: int = Field(
        42, ge=0, description="each (prompt id, index) gets its own seed, derived from this one"
    )
    stop: list[str] = Field(default_factory=list, description="texts that end an answer (left out of it)")
    json_schema: str | None = Field(
        None, description="file with a JSON schema that every answer follows (vllm, openai)"
    )
    logprobs: bool = Field(False, description="put the log-probability of each token into the output")
    split_reasoning: bool = Field(
        False, description="put what stands in <think> ... </think> into a field of its own, 'reasoning'"
    )

    turns: int = Field(
        1, ge=1, description="answers of each conversation; a user simulator speaks between them"
    )
    user_model: str | None = Field(
        None, description="model that plays the user, a folder or an endpoint's id; none: the answers' own"
    )
    user_backend: Backend | None = Field(None, description="its engine; none: the answers' own")
    user_base_url: str | None = Field(None, description="its endpoint, with openai or serve")
    user_system_message: str | None = Field(
        None, description="system message of the user simulator: who that person is"
    )
    user_prompt: str | None = Field(
        None, description="Jinja text file; none: autoalign/prompts/user_simulator/user.txt"
    )
    user_temperature: float | None = Field(None, ge=0, description="of the user's words; none: the answers'")
    user_max_new_tokens: int = Field(256, ge=1, description="longest message of the user, in tokens")

    launcher: Literal["auto", "ray", "local"] = Field(
        "auto",
        description="ray: engines are actors of a cluster; local: one engine in this process, without Ray; "
        "auto: local for one engine (vllm, hf, openai) where no cluster is named",
    )
    limit: int | None = Field(None, ge=1, description="take only the first rows of the prompts")
    shard: str | None = Field(
        None,
        pattern=r"^\d{1,5}/\d{1,5}$",
        description="I/K: answer every K-th row, from row I (counted from 0) on, into a file of its own; "
        "K such jobs, on one cluster or several, answer all",
    )
    on_bad_row: Literal["stop", "quarantine"] = Field(
        "stop", description="a broken row: stop before any work, or put it into errors.jsonl and go on"
    )
    max_error_rate: float = Field(
        0.1, ge=0, le=1, description="exit code 1 when a larger share of answers failed"
    )

    @field_validator(*_BOUNDS, mode="before")
    @classmethod
    def _one_or_a_sweep(cls, value: object, info: ValidationInfo) -> object:
        values = value if isinstance(value, list | tuple) else [value]
        numbers = [_number(str(info.field_name), each) for each in values]
        if not numbers:
            raise ValueError("at least one number is expected")
        if len(set(numbers)) < len(numbers):
            raise ValueError("a value is given twice")
        return numbers[0] if len(numbers) == 1 else numbers

    @field_validator("system_message", mode="before")
    @classmethod
    def _one_or_several_messages(cls, value: object) -> object:
        return value[0] if isinstance(value, list) and len(value) == 1 else value

    @field_validator("test_file", "stop", "models", "few_shot_path", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @field_validator("shard")
    @classmethod
    def _one_of_its_shards(cls, value: str | None) -> str | None:
        if value is not None:
            number, count = map(int, value.split("/"))
            if number >= count:
                raise ValueError(f"of {count} shards the first is 0, the last {count - 1}")
        return value

    @model_validator(mode="after")
    def _prompts_are_named(self) -> Self:
        if not self.test_file:
            raise ValueError("'test_file' is empty: give at least one file of prompts")
        if self.system_message is not None and self.system_message_file is not None:
            raise ValueError("'system_message' and 'system_message_file': give one of them")
        if self.models and (self.model_path is not None or self.model_name is not None):
            raise ValueError("'models' takes the place of 'model_path' and 'model_name'")
        unused = [name for name in _OF_THE_USER if getattr(self, name) is not None]
        if self.turns == 1 and unused:
            raise ValueError(f"{unused[0]!r} is for conversations: give --turns 2 or more")
        if self.models and self.output_file is not None and "/" in self.output_file:
            raise ValueError(
                "'output_file': several models can't share one file; give a name without a slash"
            )
        return self

    @model_validator(mode="after")
    def _local_is_one_engine(self) -> Self:
        if self.launcher != "local":
            return self
        for name, needed in (("num_replicas", 1), ("pipeline_parallel_size", 1), ("ray_address", None)):
            if getattr(self, name) != needed:
                raise ValueError(
                    f"{name!r} is for launcher ray; launcher local runs one engine in this process"
                )
        if self.serve_app is not None:
            raise ValueError("'serve_app' needs launcher ray; with launcher local, name the 'base_url'")
        return self

    def runs_locally(self, in_a_cluster: bool) -> bool:
        """Whether the engine runs in this process; `in_a_cluster`: it has joined one, or is told to."""
        if self.launcher != "auto":
            return self.launcher == "local"
        one = self.max_replicas == 1 and self.pipeline_parallel_size == 1
        named = in_a_cluster or self.ray_address is not None
        return one and not named and self.backend in ("vllm", "hf", "openai")

    @property
    def label(self) -> str:
        """What the output's `source` says."""
        return self.source or self.name

    @property
    def output_path(self) -> Path:
        """Where the answers go; `NAME-00003-of-00016.jsonl` is that of shard 3/16."""
        whole = self._whole_output
        if self.shard is None:
            return whole
        number, count = map(int, self.shard.split("/"))
        return whole.with_name(f"{whole.stem}-{number:05}-of-{count:05}{whole.suffix}")

    @property
    def _whole_output(self) -> Path:
        folder = Path(self.output_dir) / self.name.replace("/", "_")
        if self.output_file is not None:
            given = Path(self.output_file).expanduser()
            # `./x.jsonl` has a slash too, which a Path no longer shows.
            return given if "/" in self.output_file else folder / given
        stem = Path(self.test_file[0]).name.removesuffix(".gz")
        stem = stem.rsplit(".", 1)[0] if "." in stem else stem
        suffix = "jsonl" if self.output_format == "jsonl" else "json"
        return folder / f"{self.label.replace('/', '_')}_{stem}.{suffix}"

    @property
    def has_sweep(self) -> bool:
        """Whether prompts are answered in several ways."""
        swept = any(isinstance(getattr(self, name), list) for name in (*_BOUNDS, "system_message"))
        return swept or self.system_message_file is not None or bool(self.few_shot_path)


def _number(name: str, value: object) -> float:
    """The value as a number within the bounds of `name`."""
    least, highest = _BOUNDS[name]
    whole = name == "top_k"
    try:
        number = int(str(value)) if whole else float(str(value))
    except ValueError:
        kind = "a whole number" if whole else "a number"
        raise ValueError(f"{kind} is expected, or a list of them, found {value!r}") from None
    too_low = number <= float(least) if isinstance(least, str) else number < least
    if too_low or not number <= highest:
        low = f"above {least}" if isinstance(least, str) else f"{least} or more"
        high = "" if highest == inf else f", at most {highest:g}"
        raise ValueError(f"{number:g} is out of range: {low}{high}")
    return number
