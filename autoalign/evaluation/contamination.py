"""Questions that the model may have seen: training data that shares a run of words with them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from autoalign import formats
from autoalign.atomic_files import write_text
from autoalign.config.evaluate import EvalConfig
from autoalign.curation.overlap import RunsOfWords
from autoalign.evaluation.benchmark import Benchmark
from autoalign.evaluation.layout import CONTAMINATION, Layout
from autoalign.evaluation.opencompass.run import Plan
from autoalign.evaluation.own_parts import own_parts
from autoalign.evaluation.results import read_questions
from autoalign.records import LabelledAnswer, PreferencePair

_REPEATED = 10  # questions with the same run of words: it is of their pattern, as an example in all of them


def search(
    config: EvalConfig,
    own: Sequence[Benchmark],
    plan: Plan | None,
    layout: Layout,
    failed: Collection[str] = (),
) -> dict[str, int | None]:
    """How many questions of each benchmark share 13 words in a row with `training_data`.

    Which ones, and where in the data, goes into contamination.json. Data sets of OpenCompass are searched
    by the prompts that it asked; what a prompt repeats in every question (its examples) is left out.

    Args:
        failed: benchmarks without a figure. Of OpenCompass's no prompts are there: they are not searched.

    Returns:
        a count for each benchmark; None where it was not searched.
    """
    if not config.training_data:
        return {}
    asked = {each.name: [(ask.id, ask.text) for ask in each.asks] for each in own}
    unsearched = [each.name for each in plan.configs if each.name in failed] if plan else []
    for each in plan.configs if plan else ():
        if each.name in unsearched:
            continue
        file = layout.questions / f"{each.name}.jsonl"
        questions = read_questions(file) if file.is_file() else []
        asked[each.name] = [(question.id, question.prompt) for question in questions]
    found = overlaps(asked, _training(config))
    told = {
        name: [{"question": id, "training_row": place} for id, place in rows.items()]
        for name, rows in found.items()
    }
    told = {**_earlier(config, layout, (*asked, *unsearched)), **told}
    write_text(layout.contamination, json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    return {**{name: len(rows) for name, rows in found.items()}, **dict.fromkeys(unsearched)}


def _earlier(config: EvalConfig, layout: Layout, names: Sequence[str]) -> dict[str, Any]:
    """What an earlier run found of other benchmarks, whose figures `reuse` keeps."""
    if not (config.reuse and layout.contamination.is_file()):
        return {}
    told = json.loads(layout.contamination.read_text(encoding="utf-8"))
    return {name: rows for name, rows in told.items() if name not in names}


def require_readable(config: EvalConfig) -> None:
    """Raises DataError where the training data is not there or its first row can't be read."""
    if config.training_data:
        next(_training(config), None)


def overlaps(
    asked: Mapping[str, Sequence[tuple[str, str]]], training: Iterator[tuple[str, str]]
) -> dict[str, dict[str, str]]:
    """By benchmark, the questions that are in the training data: id to the first row that holds it.

    Args:
        asked: each benchmark's questions, id and prompt.
        training: place and text of each row.
    """
    runs = RunsOfWords(most=_REPEATED)
    for name, rows in asked.items():
        texts = own_parts([text for _, text in rows])
        for (id, _), text in zip(rows, texts, strict=True):
            runs.add((name, id), text)
    found: dict[str, dict[str, str]] = {name: {} for name in asked}
    for place, text in training:
        for name, id in runs.owners(text):
            found[name].setdefault(id, place)
    return found


def counts(folder: Path) -> dict[str, int]:
    """What an earlier search found; {} where there was none."""
    file = folder / CONTAMINATION
    told = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return {name: len(rows) for name, rows in told.items()}


def _training(config: EvalConfig) -> Iterator[tuple[str, str]]:
    for record in formats.iter_records(config.training_data):
        yield f"{record.source}:{record.line}", _text(record)


def _text(record: Any) -> str:
    if isinstance(record, PreferencePair):
        messages = (*record.prompt, *record.chosen, *record.rejected)
    elif isinstance(record, LabelledAnswer):
        messages = (*record.prompt, *record.completion)
    else:
        messages = record.messages
    return "\n".join(message.content for message in messages)
