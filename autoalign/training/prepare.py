"""From a config to token tables: read, render and tokenise, before any worker holds a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from autoalign import chat, formats, manifest, model_folder
from autoalign.cache_folder import default_cache_dir
from autoalign.config.dpo import DPOConfig
from autoalign.config.train import TrainConfig
from autoalign.errors import DataError, TemplateError
from autoalign.records import Conversation, LabelledAnswer, Message
from autoalign.training import best, output, stream
from autoalign.training.light_imports import leave_triton_out
from autoalign.training.objective import Objective
from autoalign.training.reporting import Display
from autoalign.training.task import Tables, TrainTask
from autoalign.training.tokens import RowTable, TokenCounts, TokenizeOptions, tokenize


@dataclass(frozen=True)
class _Data:
    table: RowTable
    digest: str
    paths: tuple[str, ...]


class DataUsed(NamedTuple):
    """What a job learns from, as its checkpoints tell it."""

    digest: str
    paths: tuple[str, ...]
    counts: TokenCounts
    evaluation_digest: str | None = None


def prepare(
    config: TrainConfig, model_path: str, bad_rows: Path, display: Display
) -> tuple[TrainTask, Tables]:
    """Tokenise the job's data and write down what the job is made from.

    Args:
        model_path: folder of the model to train.
        bad_rows: where quarantined rows go.

    Raises:
        InputError: the data, the tokenizer or the template are wrong.
    """
    leave_triton_out()
    reader = _reader(config, model_path, bad_rows, display)
    template, data = reader.template, reader.load(config, config.data_path)
    evaluation = None
    if config.eval_data_path:
        evaluation = reader.load(_for_evaluation(config), config.eval_data_path)
    used = DataUsed(
        data.digest, data.paths, data.table.counts, None if evaluation is None else evaluation.digest
    )
    task = make_task(config, model_path, template, used)
    return task, Tables(data.table, evaluation.table if evaluation else None)


def make_task(
    config: TrainConfig,
    model_path: str,
    template: chat.Template,
    data: DataUsed,
    objective: Callable[[], Objective] | None = None,
) -> TrainTask:
    """The job with what it is made from written down."""
    parent = manifest.model_digest(Path(model_path))
    fingerprint = output.fingerprint(
        config,
        data=data.digest,
        template=template.digest,
        model=parent,
        reference=_reference_digest(config),
        # It decides which checkpoint is the best, and nothing else.
        evaluation=data.evaluation_digest if best.metric_name(config) else None,
    )
    made_by = {
        "job": config.job,
        "config": config.model_dump(mode="json"),
        "fingerprint": fingerprint,
        "data": {"paths": data.paths, "digest": data.digest, **data.counts._asdict()},
        "template": {"name": template.name, "digest": template.digest},
        "parent": {"name": config.model_name_or_path, "digest": parent},
    }
    resume_from = None if config.resume in ("auto", "never") else config.resume
    return TrainTask(config, model_path, template, made_by, resume_from, objective)


def _reference_digest(config: TrainConfig) -> str | None:
    """Of a reference that is another model than the one trained."""
    if not isinstance(config, DPOConfig) or config.ref_model is None:
        return None
    return manifest.model_digest(model_folder.find(config.ref_model, fetch=True))


def read_training_rows(config: TrainConfig, model_path: str, bad_rows: Path, display: Display) -> RowTable:
    """The tokenised training rows alone, for whoever plans a job; arguments and errors as in `prepare`."""
    return _reader(config, model_path, bad_rows, display).load(config, config.data_path).table


def _reader(config: TrainConfig, model_path: str, bad_rows: Path, display: Display) -> _Reader:
    tokenizer = model_folder.load_tokenizer(model_path, config.trust_remote_code)
    template = chat.get_template(config.conv_template_name, tokenizer)
    return _Reader(tokenizer, model_path, template, bad_rows, display)


def _for_evaluation(config: TrainConfig) -> TrainConfig:
    """The same config with the evaluation set in memory, and all of it."""
    return config.model_copy(update={"max_train_samples": None, "streaming": False})


@dataclass(frozen=True)
class _Reader:
    """Reads and tokenises files, and says what came of it."""

    tokenizer: Any
    model_path: str
    template: chat.Template
    bad_rows: Path
    display: Display

    def load(self, config: TrainConfig, paths: list[str]) -> _Data:
        """The rows of `paths`; quarantined ones are added to `bad_rows`."""
        if config.streaming or (config.streaming is None and _is_to_be_streamed(config, paths)):
            return self._stream(config, paths)
        began = time.monotonic()
        dataset = formats.load(
            paths,
            kind=config.data_kind,
            format=config.format,
            on_bad_row=config.on_bad_row,
            errors_path=self.bad_rows,
            seed=config.seed,
        )
        conversations = [
            row for record in dataset.records[: config.max_train_samples] for row in _rows_of(record)
        ]
        self._warn_unless_served_alike(conversations)
        digest = f"{dataset.digest}:{config.format}:{config.seed}:{len(conversations)}"
        refused: list[DataError] = []
        table = tokenize(
            conversations,
            self.tokenizer,
            self._options(config),
            digest,
            lambda done: self.display.count("tokenising", done, len(conversations)),
            refused.append,
        )
        bad_rows = dataset.bad_rows + self._quarantine(refused, dataset.records)
        seconds = time.monotonic() - began
        self.display.note(_describe(paths, table.counts, bad_rows, config, seconds))
        return _Data(table, digest, dataset.paths)

    def _quarantine(self, refused: Sequence[DataError], records: Sequence[formats.Record]) -> int:
        """Add the rows that the template refuses to the bad ones; how many these are."""
        with formats.Problems("quarantine", self.bad_rows) as problems:
            for problem, raw in stream.raw_refused(refused, records):
                problems.add(problem, raw)
        return problems.count

    def _stream(self, config: TrainConfig, paths: list[str]) -> _Data:
        """The rows of `paths` in shards; at no time are all of them in memory."""
        began = time.monotonic()
        sources = formats.parse_sources(paths)
        kind, format, seed = config.data_kind, config.format, config.seed
        split = formats.split(sources, kind, format)
        first = islice(formats.read_block(split.blocks[0], kind, format, seed, lambda *_: None), 8)
        self._warn_unless_served_alike([row for record in first for row in _rows_of(record)])
        digest = f"{split.digest}:{format}:{seed}:shards"
        quarantines = config.on_bad_row == "quarantine"
        prepared = stream.prepare(
            split,
            stream.Reading(kind, format, seed, quarantines, self._options(config), _rows_of),
            self.tokenizer,
            digest,
            formats.Problems(config.on_bad_row, self.bad_rows),
            with_ray=config.launcher == "ray",
            progress=lambda done: self.display.count("tokenising", done),
        )
        seconds = time.monotonic() - began
        self.display.note(_describe(paths, prepared.table.counts, prepared.bad_rows, config, seconds))
        return _Data(prepared.table, digest, tuple(source.path for source in sources))

    def _options(self, config: TrainConfig) -> TokenizeOptions:
        return TokenizeOptions(
            self.model_path,
            self.template,
            config.model_max_length,
            config.overlong,
            Path(config.cache_dir).expanduser() if config.cache_dir else default_cache_dir(),
            config.trust_remote_code,
            rows_per_example=2 if config.learns_from_pairs else 1,
            labelled=config.data_kind == "unpaired",
            skips_refused=config.on_bad_row == "quarantine",
        )

    def _warn_unless_served_alike(self, conversations: Sequence[Conversation]) -> None:
        """Say so when this template and tokenizer render a prompt otherwise in training than in serving."""
        for row in conversations[:8]:
            try:
                agrees = chat.prompt_agrees(row.messages, self.tokenizer, self.template)
            except TemplateError:
                return  # tokenising names the row
            if not agrees:
                self.display.note(
                    f"warning: with template '{self.template.name}' and this tokenizer the prompt of "
                    f"{row.source}:{row.line} is trained on otherwise than it is served "
                    "(docs/chat-templates.md)"
                )
                return


def _is_to_be_streamed(config: TrainConfig, paths: list[str]) -> bool:
    return config.max_train_samples is None and stream.is_large(paths)


def _rows_of(record: formats.Record) -> Sequence[Conversation]:
    """A conversation as it is; a pair as two, and a labelled answer, with a prompt that is not learned from.

    A pair's margin and an answer's label go along in `extra`.
    """
    if isinstance(record, Conversation):
        return (record,)
    prompt = tuple(_untrained(message) for message in record.prompt)
    if isinstance(record, LabelledAnswer):
        turns, extra = (*prompt, *record.completion), {"label": record.label}
        return (Conversation(record.id, turns, record.source, record.line, record.tools, extra),)
    margin = {} if record.margin is None else {"margin": record.margin}
    place = (record.source, record.line, record.tools, margin)
    return [
        Conversation(f"{record.id}:{side}", (*prompt, *answer), *place)
        for side, answer in (("chosen", record.chosen), ("rejected", record.rejected))
    ]


def _untrained(message: Message) -> Message:
    return replace(message, train=False) if message.role == "assistant" else message


def _describe(paths: list[str], counts: TokenCounts, bad: int, config: TrainConfig, seconds: float) -> str:
    names = ", ".join(paths)
    parts = [f"{names}: {counts.rows} rows, {counts.tokens} tokens, {counts.supervised_tokens} trained on"]
    if counts.truncated:
        parts.append(f"{counts.truncated} rows truncated to model_max_length {config.model_max_length}")
    if counts.dropped:
        parts.append(f"{counts.dropped} rows over model_max_length {config.model_max_length} dropped")
    if bad:
        parts.append(f"{bad} bad rows in {Path(config.output_dir) / 'errors.jsonl'}")
    return f"{'; '.join(parts)} ({seconds:.1f} s)"
