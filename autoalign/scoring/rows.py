"""What is scored: a file's rows as they stand, and the conversations that each stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autoalign import formats
from autoalign.errors import ConfigError, DataError
from autoalign.records import Conversation, PreferencePair


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """A row of the input.

    Attributes:
        fields: the row as it stands in the file.
        answers: one conversation, or a pair's chosen and rejected one.
    """

    fields: Mapping[str, Any]
    answers: tuple[Conversation, ...]

    def with_rewards(self, rewards: Sequence[float]) -> dict[str, Any]:
        """The row with `reward`, or with `reward_chosen` and `reward_rejected`."""
        names = ["reward"] if len(self.answers) == 1 else ["reward_chosen", "reward_rejected"]
        return {**self.fields, **dict(zip(names, rewards, strict=True))}


def read(paths: Sequence[str], format: str | None) -> list[ScoredRow]:
    """The rows of all files, in order.

    Raises:
        DataError: a file or a row is wrong; the last turn is no answer.
        ConfigError: a path has a weight, which is for training.
    """
    return [row for path in paths for row in _read_file(path, format)]


def _read_file(path: str, format: str | None) -> list[ScoredRow]:
    dataset = formats.load([path], format=format)
    (file,) = dataset.paths
    values = [raw.value for raw in formats.read_rows(file)]
    if file != path or len(values) != len(dataset):
        raise ConfigError(f"'data_path': {path}: a weight (PATH@WEIGHT) is for training; give the path alone")
    return [ScoredRow(value, _answers(record)) for value, record in zip(values, dataset.records, strict=True)]


def _answers(record: Conversation | PreferencePair) -> tuple[Conversation, ...]:
    if isinstance(record, PreferencePair):
        return tuple(
            Conversation(record.id, (*record.prompt, *answer), record.source, record.line)
            for answer in (record.chosen, record.rejected)
        )
    last = record.messages[-1].role
    if last != "assistant":
        message = f"the last turn is the {last}'s; an answer to score is expected"
        raise DataError(message, record.source, record.line)
    return (record,)
