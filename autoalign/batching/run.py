"""A batch from its requests to its files: one sampling job for the requests of the same settings."""

from __future__ import annotations

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from autoalign.atomic_files import replacing
from autoalign.batching.counts import COUNTS_NAME, Counts
from autoalign.batching.requests import Problem, Request, Settings, read
from autoalign.cluster import ray_session
from autoalign.config.batch import BatchConfig
from autoalign.config.engine import EngineConfig
from autoalign.config.sample import InferConfig
from autoalign.errors import DataError
from autoalign.manifest import write_json
from autoalign.sampling.progress import Settled


@dataclass(frozen=True)
class BatchReport:
    """How many requests were answered, and how many were not; tokens over all of them."""

    total: int
    completed: int
    failed: int
    input_tokens: int
    output_tokens: int


def run(config: BatchConfig) -> BatchReport:
    """Answer every request of `config.input_file`.

    A run again after a stop keeps the settings that are done.

    Raises:
        InputError: the model or the file is wrong.
        JobFailed: the engine failed.
        StoppedEarly: stopped from outside.
    """
    source = Path(config.input_file)
    if not source.is_file():
        raise DataError("no such file", file=config.input_file)
    folder = Path(config.output_file).parent / "settings"
    folder.mkdir(parents=True, exist_ok=True)
    rows = _write_prompts(source, folder)
    counts = Counts(Path(config.output_file).parent, rows.total, rows.refused)
    if not rows.groups:
        return _gather(config, source, {})
    with ray_session(config.ray_address, config.max_replicas + 1):
        answers = {
            name: _answer(config, settings, folder / name, counts) for name, settings in rows.groups.items()
        }
    return _gather(config, source, answers)


def _name(settings: Settings) -> str:
    return hashlib.sha256(json.dumps(asdict(settings)).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class _Prompts:
    """Settings by the names of their folders; how many rows there are, and how many are no request."""

    groups: dict[str, Settings]
    total: int
    refused: int


def _write_prompts(source: Path, folder: Path) -> _Prompts:
    """A file of prompts for each of the settings, in a folder of its own."""
    groups: dict[str, Settings] = {}
    rows: dict[str, list[bytes]] = defaultdict(list)
    total = 0
    for number, request in read(source):
        total += 1
        if isinstance(request, Request):
            settings = request.body.settings()
            name = _name(settings)
            groups[name] = settings
            messages = [message.plain() for message in request.body.messages]
            rows[name].append(orjson.dumps({"id": str(number), "messages": messages}) + b"\n")
    for name, lines in rows.items():
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "prompts.jsonl").write_bytes(b"".join(lines))
    return _Prompts(groups, total, total - sum(map(len, rows.values())))


def _answer(config: BatchConfig, settings: Settings, folder: Path, counts: Counts) -> Path:
    """The folder with answers.jsonl, and errors.jsonl where some are missing."""
    from autoalign.sampling.run import run as sample

    if (folder / "answers.jsonl").is_file():
        counts.show(_settled(folder, settings.n))
    else:
        engine = {name: getattr(config, name) for name in EngineConfig.model_fields}
        sample(
            InferConfig(
                **engine,
                test_file=[str(folder / "prompts.jsonl")],
                output_file=str(folder / "answers.jsonl"),
                temperature=settings.temperature,
                top_p=settings.top_p,
                n=settings.n,
                max_new_tokens=settings.max_new_tokens or config.max_new_tokens,
                seed=config.seed if settings.seed is None else settings.seed,
                stop=list(settings.stop),
                on_bad_row="quarantine",
                max_error_rate=1.0,
            ),
            counts.show,
        )
    counts.keep()
    return folder


def _settled(folder: Path, n: int) -> Settled:
    """Of settings that an earlier attempt has answered."""
    prompts = sum(1 for _ in _rows(folder / "prompts.jsonl"))
    whole = sum(len(rows) == n for rows in _by_prompt(folder / "answers.jsonl").values())
    return Settled(whole, prompts - whole)


def _gather(config: BatchConfig, source: Path, folders: dict[str, Path]) -> BatchReport:
    """Both files, in the input's order."""
    answered = {name: _by_prompt(folder / "answers.jsonl") for name, folder in folders.items()}
    failed = {name: _reasons(folder / "errors.jsonl") for name, folder in folders.items()}
    good: list[bytes] = []
    bad: list[bytes] = []
    tokens = [0, 0]
    for number, request in read(source):
        if isinstance(request, Problem):
            bad.append(_refused(None, request.message, request.param))
            continue
        name = _name(request.body.settings())
        rows = answered[name].get(str(number), [])
        if len(rows) < request.body.n:
            reason = failed[name].get(str(number), "it could not be answered; see the job's log")
            bad.append(_refused(request.custom_id, reason, None))
            continue
        tokens[0] += rows[0]["prompt_tokens"]
        tokens[1] += sum(row["completion_tokens"] for row in rows)
        good.append(_completed(request, rows))
    _write(Path(config.output_file), good)
    _write(Path(config.error_file), bad)
    report = BatchReport(len(good) + len(bad), len(good), len(bad), *tokens)
    write_json(Path(config.output_file).with_name(COUNTS_NAME), asdict(report))
    return report


def _by_prompt(path: Path) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in _rows(path):
        found[row["prompt_id"]].append(row)
    return found


def _reasons(path: Path) -> dict[str, str]:
    return {row["prompt_id"]: row["error"] for row in _rows(path) if "prompt_id" in row and "error" in row}


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if path.is_file():
        with path.open("rb") as file:
            yield from map(orjson.loads, file)


def _completed(request: Request, rows: list[dict[str, Any]]) -> bytes:
    """An output row: OpenAI's chat completion around the answers."""
    rows = sorted(rows, key=lambda row: row["index"])
    prompt, completion = rows[0]["prompt_tokens"], sum(row["completion_tokens"] for row in rows)
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": row["text"], "refusal": None},
            "logprobs": None,
            "finish_reason": "length" if row["finish_reason"] == "length" else "stop",
        }
        for index, row in enumerate(rows)
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


def _refused(custom_id: str | None, message: str, param: str | None) -> bytes:
    """An error row."""
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": "invalid_request"}
    response = {"status_code": 400, "request_id": _id("req-", str(custom_id)), "body": {"error": error}}
    return _line(custom_id, response, {"code": "invalid_request", "message": message})


def _line(custom_id: str | None, response: dict[str, Any], error: dict[str, Any] | None) -> bytes:
    row = {
        "id": _id("batch_req_", str(custom_id)),
        "custom_id": custom_id,
        "response": response,
        "error": error,
    }
    return orjson.dumps(row) + b"\n"


def _id(prefix: str, text: str) -> str:
    return prefix + hashlib.sha256(text.encode()).hexdigest()[:24]


def _write(path: Path, lines: Iterable[bytes]) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.writelines(lines)
