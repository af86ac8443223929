"""A batch from its requests to its files: one sampling job for the requests of the same settings."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import orjson

from autoalign.batching.counts import Counts
from autoalign.batching.requests import Request, Settings, read
from autoalign.batching.results import ANSWERS_NAME, BatchFiles, BatchReport, gather, read_answers, rows
from autoalign.cluster import ray_session
from autoalign.config.batch import BatchConfig
from autoalign.config.engine import EngineConfig
from autoalign.config.sample import InferConfig
from autoalign.errors import DataError
from autoalign.sampling.progress import Settled


def run(config: BatchConfig) -> BatchReport:
    """Answer every request of `config.input_file`.

    A run again after a stop keeps the settings that are done.

    Raises:
        InputError: the model or the file is wrong.
        JobFailed: the engine failed.
        StoppedEarly: stopped from outside.
    """
    files = BatchFiles(Path(config.input_file), Path(config.output_file), Path(config.error_file))
    if not files.requests.is_file():
        raise DataError("no such file", file=config.input_file)
    files.settings.mkdir(parents=True, exist_ok=True)
    prompts = _write_prompts(files.requests, files.settings)
    counts = Counts(files.output.parent, prompts.total, prompts.refused)
    if prompts.groups:
        with ray_session(config.ray_address, config.max_replicas + 1):
            for name, settings in prompts.groups.items():
                _answer(config, settings, files.settings / name, counts)
    return gather(files)


@dataclass(frozen=True)
class _Prompts:
    """Settings by the names of their folders; how many rows there are, and how many are no request."""

    groups: dict[str, Settings]
    total: int
    refused: int


def _write_prompts(source: Path, folder: Path) -> _Prompts:
    """A file of prompts for each of the settings, in a folder of its own."""
    groups: dict[str, Settings] = {}
    lines: dict[str, list[bytes]] = defaultdict(list)
    total = 0
    for number, request in read(source):
        total += 1
        if isinstance(request, Request):
            settings = request.body.settings()
            name = settings.name
            groups[name] = settings
            messages = [message.plain() for message in request.body.messages]
            lines[name].append(orjson.dumps({"id": str(number), "messages": messages}) + b"\n")
    for name, own in lines.items():
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "prompts.jsonl").write_bytes(b"".join(own))
    return _Prompts(groups, total, total - sum(map(len, lines.values())))


def _answer(config: BatchConfig, settings: Settings, folder: Path, counts: Counts) -> None:
    """Have answers.jsonl in the folder, and errors.jsonl where some are missing."""
    from autoalign.sampling.run import run as sample

    if (folder / ANSWERS_NAME).is_file():
        counts.show(_settled(folder, settings.n))
    else:
        engine = {name: getattr(config, name) for name in EngineConfig.model_fields}
        sample(
            InferConfig(
                **engine,
                test_file=[str(folder / "prompts.jsonl")],
                output_file=str(folder / ANSWERS_NAME),
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


def _settled(folder: Path, n: int) -> Settled:
    """Of settings that an earlier attempt has answered."""
    prompts = sum(1 for _ in rows(folder / "prompts.jsonl"))
    whole = sum(len(answers) == n for answers in read_answers(folder).values())
    return Settled(whole, prompts - whole)
