"""The config of `autoalign-cli synthesize`."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from autoalign.config.engine import EngineConfig

Positive = Annotated[int, Field(gt=0)]


class SynthesizeConfig(EngineConfig):
    """Make training conversations with a model: new instructions and their answers."""

    method: str = Field(
        description="self_instruct, back_translation, magpie, evol_instruct, or persona: a file of "
        "autoalign/synthesis"
    )
    seed_path: list[str] = Field(
        default_factory=list,
        description="what to start from, one or several data files: instructions, texts or personas, "
        "whatever the method takes",
    )
    seed_key: str | None = Field(
        None, description="key of a row that holds the seed's text; none: found by the data format"
    )
    output_file: str = Field(
        description="JSONL in the messages format; NAME.dropped.jsonl beside it holds the others with reasons"
    )
    overwrite: bool = Field(False, description="replace an output file that exists")
    fresh: bool = Field(False, description="forget the texts that earlier runs have kept in NAME.texts.jsonl")
    num_rows: Positive | None = Field(
        None, description="rows to keep; none: all that the seeds give (self_instruct, magpie: required)"
    )
    max_made: Positive | None = Field(
        None, description="end after so many rows, kept or dropped; none: 20 times num_rows"
    )
    prompts_dir: str | None = Field(
        None, description="folder whose NAME.txt files take the place of autoalign/prompts/synthesis/METHOD's"
    )
    system_message: str | None = Field(None, description="system message in front of every prompt")
    batch_size: Positive = Field(64, description="prompts that are asked together, a round of the method")
    limit: Positive | None = Field(None, description="take only the first seeds of each file")

    temperature: float = Field(1.0, ge=0, description="0 takes the likeliest token; higher is more varied")
    top_p: float = Field(
        1.0, gt=0, le=1, description="sample from the smallest set of tokens with this probability"
    )
    top_k: int = Field(0, ge=-1, description="sample from this many likeliest tokens; 0 or -1: all")
    min_p: float = Field(
        0.0, ge=0, le=1, description="leave out tokens under this share of the likeliest one's"
    )
    repetition_penalty: float = Field(1.0, gt=0, description="above 1 makes tokens already seen less likely")
    max_new_tokens: int = Field(1024, ge=1, description="longest text, in tokens")
    seed: int = Field(42, ge=0, description="decides every draw; the same seed gives the same rows")

    rouge_l: float | None = Field(
        None, description="self_instruct: drop instructions at least this similar to an earlier one (0.7)"
    )
    excluded_words: tuple[str, ...] | None = Field(
        None, description="self_instruct: drop instructions with one of these words (image, graph, ...)"
    )
    min_score: int | None = Field(None, description="back_translation: least rating that is kept, 1 to 5 (5)")
    turns: int | None = Field(None, description="magpie: questions of a conversation (1)")
    greedy_answers: bool | None = Field(
        None, description="magpie: answers take the likeliest tokens (true), or are sampled too (false)"
    )
    rounds: int | None = Field(None, description="evol_instruct: how often each instruction is evolved (4)")
    task: str | None = Field(
        None,
        description="persona: what is made: instruction, math, reasoning, knowledge, or a task_NAME.txt of "
        "prompts_dir (instruction)",
    )
    seeds_are: str | None = Field(
        None, description="persona: the seeds are personas, or texts whose readers they are (personas)"
    )
    relations: int | None = Field(
        None, description="persona: rounds that add people close to those before (0; the paper: 6)"
    )
    per_persona: int | None = Field(None, description="persona: instructions for each persona (1)")
    jaccard: float | None = Field(
        None, description="persona: drop personas at least this similar to an earlier one (0.9)"
    )

    @field_validator("seed_path", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _output_is_jsonl(self) -> Self:
        if not self.output_file.endswith(".jsonl"):
            raise ValueError(f"'output_file': {self.output_file!r} does not end in .jsonl")
        return self
