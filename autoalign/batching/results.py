"""A batch's output and error files, made of what its settings' folders hold, in OpenAI's format."""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from autoalign.atomic_files import replacing
from autoalign.batching.counts import COUNTS_NAME
from autoalign.batching.requests import Problem, Request, read
from autoalign.manifest import write_json

ANSWERS_NAME = "answers.jsonl"
# Sampling keeps answers under this name as they come; the whole file replaces it.
_PARTIAL_NAME = f"{ANSWERS_NAME}.partial"


@dataclass(frozen=True)
class BatchReport:
    """How many requests were answered, and how many were not; tokens over all of them."""

    total: int
    completed: int
    failed: int
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True)
class BatchFiles:
    """Where a batch's requests, answers and errors lie."""

    requests: Path
    output: Path
    errors: Path

    @property
    def settings(self) -> Path:
        """A folder for each of the settings: its prompts, and its answers as they come."""
        return self.output.parent / "settings"


class Unanswered(NamedTuple):
    """Why a batch that has not been done leaves requests unanswered: OpenAI's code, and a message."""

    code: str
    message: str


class Answer(NamedTuple):
    """One of a prompt's answers."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


Answers = Mapping[int, Answer]
_NO_ANSWERS: Answers = {}


def gather(files: BatchFiles, unanswered: Unanswered | None = None) -> BatchReport:
    """Write both files, in the order of the requests: each of them is in one of the two.

    Args:
        unanswered: of a batch that ended before it was done; what had been answered by then counts.

    Raises:
        FileNotFoundError: the requests are gone.
    """
    of_settings: dict[str, _Results] = {}
    completed = failed = input_tokens = output_tokens = 0
    with (
        replacing(files.output) as good_path,
        replacing(files.errors) as bad_path,
        good_path.open("wb") as good,
        bad_path.open("wb") as bad,
    ):
        for number, request in read(files.requests):
            if isinstance(request, Problem):
                bad.write(_refused(None, request.message, request.param))
                failed += 1
                continue
            name = request.body.settings().name
            if name not in of_settings:
                of_settings[name] = _Results.read(files.settings / name)
            found = of_settings[name]
            answers = found.answers.get(str(number), _NO_ANSWERS)
            if len(answers) < request.body.n:
                bad.write(_missing(request, found.reasons.get(str(number)), unanswered))
                failed += 1
                continue
            good.write(_completed(request, answers))
            completed += 1
            input_tokens += next(iter(answers.values())).prompt_tokens
            output_tokens += sum(answer.completion_tokens for answer in answers.values())
    report = BatchReport(completed + failed, completed, failed, input_tokens, output_tokens)
    write_json(files.output.with_name(COUNTS_NAME), asdict(report))
    return report


@dataclass(frozen=True)
class _Results:
    """Of one settings' folder: answers by the prompt and their index, and why others can't be had."""

    answers: Mapping[str, Answers]
    reasons: Mapping[str, str]

    @classmethod
    def read(cls, folder: Path) -> _Results:
        return cls(read_answers(folder), _reasons(folder / "errors.jsonl"))


def read_answers(folder: Path) -> Mapping[str, Answers]:
    """A settings folder's answers by the prompt's id; those so far where they are not all there."""
    found: dict[str, dict[int, Answer]] = defaultdict(dict)
    whole = folder / ANSWERS_NAME
    for row in rows(whole if whole.is_file() else folder / _PARTIAL_NAME):
        found[row["prompt_id"]][row["index"]] = Answer(*(row[name] for name in Answer._fields))
    return found


def _reasons(path: Path) -> dict[str, str]:
    return {row["prompt_id"]: row["error"] for row in rows(path) if "prompt_id" in row and "error" in row}


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """A file's rows; none where there is no file. A killed job may have torn the last one: it is left out."""
    if path.is_file():
        with path.open("rb") as file:
            yield from (orjson.loads(line) for line in file if line.endswith(b"\n"))


def _completed(request: Request, answers: Answers) -> bytes:
    """An output row: OpenAI's chat completion around the answers."""
    in_order = [answers[index] for index in sorted(answers)]
    prompt, completion = in_order[0].prompt_tokens, sum(answer.completion_tokens for answer in in_order)
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": answer.text, "refusal": None},
            "logprobs": None,
            "finish_reason": "length" if answer.finish_reason == "length" else "stop",
        }
        for index, answer in enumerate(in_order)
    ]
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    body = {
        "id": _id("chatcmpl-", request.custom_id),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request.body.model,
        "choices": choices,
        "usage": usage,
    }
    response = {"status_code": 200, "request_id": _id("req-", request.custom_id), "body": body}
    return _line(request.custom_id, response, None)


def _missing(request: Request, reason: str | None, unanswered: Unanswered | None) -> bytes:
    """An error row of a request without all its answers; one that was never tried has no response."""
    if reason is None and unanswered is not None:
        return _line(request.custom_id, None, unanswered._asdict())
    return _refused(request.custom_id, reason or "it could not be answered; see the job's log", None)


def _refused(custom_id: str | None, message: str, param: str | None) -> bytes:
    """An error row."""
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": "invalid_request"}
    response = {"status_code": 400, "request_id": _id("req-", str(custom_id)), "body": {"error": error}}
    return _line(custom_id, response, {"code": "invalid_request", "message": message})


def _line(custom_id: str | None, response: dict[str, Any] | None, error: dict[str, Any] | None) -> bytes:
    row = {
        "id": _id("batch_req_", str(custom_id)),
        "custom_id": custom_id,
        "response": response,
        "error": error,
    }
    return orjson.dumps(row) + b"\n"


def _id(prefix: str, text: str) -> str:
    return prefix + hashlib.sha256(text.encode()).hexdigest()[:24]
