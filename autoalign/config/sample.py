"""The config of a sampling job (`autoalign-cli infer`, `ray_jobs/sample.py`)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from autoalign.config.engine import EngineConfig


class InferConfig(EngineConfig):
    """Answer a file of prompts with a model: Ray Data over vLLM, transformers or an endpoint."""

    test_file: list[str] = Field(description="prompts: one or several files, ShareGPT, messages or prompts")
    source: str | None = Field(None, description="label of these answers; none: the model's name")
    system_message: str | None = Field(None, description="system message put in place of every prompt's own")

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
    overwrite: bool = Field(False, description="replace an output file that exists")

    n: int = Field(1, ge=1, description="answers for each prompt")
    temperature: float = Field(0.0, ge=0, description="0 takes the likeliest token; higher is more varied")
    top_p: float = Field(
        1.0, gt=0, le=1, description="sample from the smallest set of tokens with this probability"
    )
    top_k: int = Field(0, ge=-1, description="sample from this many likeliest tokens; 0 or -1: all")
    min_p: float = Field(
        0.0, ge=0, le=1, description="leave out tokens under this share of the likeliest one's"
    )
    repetition_penalty: float = Field(1.0, gt=0, description="above 1 makes tokens already seen less likely")
    max_new_tokens: int = Field(1024, ge=1, description="longest answer, in tokens")
    seed: int = Field(
        42, ge=0, description="each (prompt id, index) gets its own seed, derived from this one"
    )
    stop: list[str] = Field(default_factory=list, description="texts that end an answer (left out of it)")

    limit: int | None = Field(None, ge=1, description="take only the first rows of the prompts")
    on_bad_row: Literal["stop", "quarantine"] = Field(
        "stop", description="a broken row: stop before any work, or put it into errors.jsonl and go on"
    )
    max_error_rate: float = Field(
        0.1, ge=0, le=1, description="exit code 1 when a larger share of answers failed"
    )

    @field_validator("test_file", "stop", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _prompts_are_named(self) -> Self:
        if not self.test_file:
            raise ValueError("'test_file' is empty: give at least one file of prompts")
        return self

    @property
    def label(self) -> str:
        """What the output's `source` says."""
        return self.source or self.name

    @property
    def output_path(self) -> Path:
        """Where the answers go."""
        folder = Path(self.output_dir) / self.name.replace("/", "_")
        if self.output_file is not None:
            given = Path(self.output_file)
            return given if given.is_absolute() or len(given.parts) > 1 else folder / given
        stem = Path(self.test_file[0]).name.removesuffix(".gz")
        stem = stem.rsplit(".", 1)[0] if "." in stem else stem
        suffix = "jsonl" if self.output_format == "jsonl" else "json"
        return folder / f"{self.label.replace('/', '_')}_{stem}.{suffix}"
