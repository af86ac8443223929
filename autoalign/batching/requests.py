"""Rows of a batch's input file: what they may ask for, and what is wrong with them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

ENDPOINT = "/v1/chat/completions"
MOST_SETTINGS = 64
Text = Annotated[str, Field(max_length=1_000_000)]


def _without_nul(text: str) -> str:
    """A database's text holds no NUL. That it is Unicode is known: orjson reads nothing else."""
    if "\0" in text:
        raise ValueError("text without NUL is expected")
    return text


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class TextPart(_Strict):
    """A part of a message's content."""

    type: Literal["text"]
    text: Text


class Message(_Strict):
    """A message of the conversation so far."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[TextPart]
    name: Text | None = None

    def plain(self) -> dict[str, str]:
        """Role and text, as the data formats have them."""
        parts = self.content if isinstance(self.content, str) else [part.text for part in self.content]
        role = "system" if self.role == "developer" else self.role
        return {"role": role, "content": "".join(parts)}


class Body(_Strict):
    """The part of OpenAI's chat completion request that a batch can ask for."""

    model: Annotated[Text, AfterValidator(_without_nul)]
    messages: list[Message] = Field(min_length=1, max_length=1000)
    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    n: int = Field(1, ge=1, le=128)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    seed: int | None = Field(None, ge=0)
    stop: Text | list[Text] | None = None
    stream: Literal[False] = False

    def settings(self) -> Settings:
        """What decides how its answers are drawn."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        longest = self.max_completion_tokens or self.max_tokens
        return Settings(self.temperature, self.top_p, self.n, longest, self.seed, tuple(stop))


class Request(_Strict):
    """A row."""

    custom_id: Annotated[str, Field(min_length=1, max_length=512)]
    method: Literal["POST"]
    url: Literal["/v1/chat/completions"]
    body: Body


@dataclass(frozen=True)
class Settings:
    """Requests with the same ones are answered together; None: the job's own."""

    temperature: float
    top_p: float
    n: int
    max_new_tokens: int | None
    seed: int | None
    stop: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of the folder that they have among a batch's."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Problem:
    """A row that can't be answered: OpenAI's code, message and parameter, and its line, from 1."""

    line: int
    code: str
    message: str
    param: str | None = None


def read(path: Path) -> Iterator[tuple[int, Request | Problem]]:
    """Each row with its line, as a request or as what is wrong with it."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, parse(number, line)


def parse(number: int, line: bytes) -> Request | Problem:
    """One row."""
    try:
        row: Any = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return Problem(number, "invalid_json_line", f"not JSON: {error}")
    try:
        return Request.model_validate(row)
    except ValidationError as error:
        detail = error.errors()[0]
        field = ".".join(str(part) for part in detail["loc"])
        reason = str(detail["msg"]).removeprefix("Value error, ")
        message = f"{field}: {reason}" if field else reason
        return Problem(number, "invalid_request", message, field or None)


def problems(path: Path, most_rows: int, most_problems: int = 50) -> tuple[list[Problem], int, str | None]:
    """What is wrong with a file as a whole or with its rows; the rows' number; the model they name."""
    found: list[Problem] = []
    ids: set[str] = set()
    models: dict[str, None] = {}
    settings: set[Settings] = set()
    count = 0
    for number, row in read(path):
        count += 1
        if isinstance(row, Problem):
            found.append(row)
        elif row.custom_id in ids:
            message = f"custom_id '{row.custom_id}' is used before"
            found.append(Problem(number, "duplicate_custom_id", message))
        else:
            ids.add(row.custom_id)
            models[row.body.model] = None
            settings.add(row.body.settings())
        if count > most_rows:
            found.append(Problem(number, "too_many_requests", f"more than {most_rows} requests"))
        if len(models) > 1:
            found.append(Problem(number, "mismatched_model", "all requests of a batch name the same model"))
        if len(settings) > MOST_SETTINGS:
            message = f"more than {MOST_SETTINGS} different settings (temperature, seed, ...) in one batch"
            found.append(Problem(number, "too_many_settings", message))
        too_much = count > most_rows or len(models) > 1 or len(settings) > MOST_SETTINGS
        if too_much or len(found) >= most_problems:
            break
    if not count:
        found.append(Problem(1, "empty_file", "the file is empty"))
    return found, count, next(iter(models), None)
