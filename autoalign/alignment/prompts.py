"""The job's prompts: those to learn from, those held out, and the fixed benchmark."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from autoalign import formats
from autoalign.algorithms import Algorithm, Prompt, PromptSet
from autoalign.config.align import AlignConfig
from autoalign.curation.answers import prompt_key
from autoalign.errors import ConfigError, DataError
from autoalign.formats._stream import detect
from autoalign.formats._types import get_format
from autoalign.records import Message


class PromptSets(NamedTuple):
    """What is learned from, what is evaluated on, and what must not be forgotten."""

    training: list[Prompt]
    held_out: list[Prompt]
    benchmark: list[Prompt]

    def of_round(self, number: int, size: int | None) -> list[Prompt]:
        """The training prompts of a round: the next `size`, from the start again where they end."""
        if size is None or size >= len(self.training):
            return self.training
        start = (number - 1) * size
        return [self.training[place % len(self.training)] for place in range(start, start + size)]


def read(config: AlignConfig) -> PromptSets:
    """All prompts; none of the held-out ones and of the benchmark's is learned from.

    Raises:
        DataError: a row is broken.
        ConfigError: nothing is left to learn from.
    """
    found = list(islice(_of_files(config.prompt_path, config.format), config.limit))
    if config.held_out_path:
        held_out = list(islice(_of_files(config.held_out_path, None), config.held_out))
    else:
        held_out, found = found[-config.held_out :], found[: -config.held_out]
    benchmark = list(islice(_of_files(config.benchmark_path, None), config.benchmark_limit))
    hidden = {prompt_key(prompt.messages) for prompt in (*held_out, *benchmark)}
    training = [prompt for prompt in found if prompt_key(prompt.messages) not in hidden]
    if not training:
        raise ConfigError(
            f"'prompt_path': no prompts are left to learn from, since {len(held_out)} are held out and "
            f"{len(benchmark)} are the benchmark's: lower 'held_out', or give 'held_out_path'"
        )
    return PromptSets(list(_distinct(training)), list(_distinct(held_out)), list(_distinct(benchmark)))


def principles(config: AlignConfig) -> tuple[str, ...]:
    """Those of the config, or the lines of its file.

    Raises:
        ConfigError: the file can't be read.
    """
    if config.principles_path is None:
        return tuple(config.principles)
    try:
        lines = Path(config.principles_path).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"'principles_path': {config.principles_path}: {error}") from None
    return tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))


def texts(config: AlignConfig, built: Algorithm) -> PromptSet:
    """The algorithm's prompts, with those of the config's `prompts_dir` in place of ours."""
    return built.prompts(Path(config.prompts_dir).expanduser() if config.prompts_dir else None)


def digest(prompts: Sequence[Prompt]) -> str:
    """A hash of all that they hold."""
    text = json.dumps([asdict(prompt) for prompt in prompts], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _of_files(paths: Sequence[str], format: str | None) -> Iterator[Prompt]:
    for path in paths:
        if _holds_pairs(path, format):
            for pair in formats.load(path, format=format, kind="preference").pairs:
                yield _prompt(pair, pair.prompt, pair.chosen[-1].content, pair.rejected[-1].content)
            continue
        for record in formats.load(path, format=format, purpose="prompts").conversations:
            answer = record.extra.get("reference")
            yield _prompt(record, record.messages, None if answer is None else str(answer), None)


def _holds_pairs(path: str, format: str | None) -> bool:
    first = next(iter(formats.read_rows(path)), None)
    if first is None or not isinstance(first.value, dict):
        return False
    try:
        return (get_format(format) if format else detect(first.value)).KIND == "preference"
    except DataError:
        return False  # the reader says it better, with file and line


def _prompt(
    record: formats.Record, messages: tuple[Message, ...], answer: str | None, rejected: str | None
) -> Prompt:
    if not messages or messages[-1].role != "user":
        raise DataError("the prompt does not end with a user's turn", record.source, record.line)
    return Prompt(record.id, messages, answer, None if answer is None else _final(answer), rejected)


def _final(answer: str) -> str:
    """What stands behind GSM8K's `####`; all of it elsewhere."""
    return answer.rsplit("####", 1)[-1].strip() or answer


def _distinct(prompts: Sequence[Prompt]) -> Iterator[Prompt]:
    """Slashes part the keys of asks; a second `x` becomes `x~2`."""
    seen: dict[str, int] = {}
    for prompt in prompts:
        name = prompt.id.replace("/", "_")
        count = seen[name] = seen.get(name, 0) + 1
        yield replace(prompt, id=name if count == 1 else f"{name}~{count}")
