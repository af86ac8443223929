"""Questions that the model may have seen: training data shares a run of words with them, or asks them."""

from __future__ import annotations

import json
import re
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

_LABEL = re.compile(r"[^:：\n]{1,30}[:：]")
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
    by the prompts that it asked; what a prompt repeats in every question (its examples) is left out. A
    question whose own part is under 8 words is found where it, or all of the prompt, is a whole message.

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
    asked: Mapping[str, Sequence[tuple[str, str]]], training: Iterator[tuple[str, Sequence[str]]]
) -> dict[str, dict[str, str]]:
    """By benchmark, the questions that are in the training data: id to the first row that holds it.

    Args:
        asked: each benchmark's questions, id and prompt.
        training: place and messages of each row.
    """
    runs = RunsOfWords(most=_REPEATED)
    for name, rows in asked.items():
        texts = _unlabelled(own_parts([prompt for _, prompt in rows]))
        for (id, prompt), text in zip(rows, texts, strict=True):
            runs.add((name, id), text, prompt)
    found: dict[str, dict[str, str]] = {name: {} for name in asked}
    for place, messages in training:
        for name, id in runs.owners(messages):
            found[name].setdefault(id, place)
    return found


def counts(folder: Path) -> dict[str, int]:
    """What an earlier search found; {} where there was none."""
    file = folder / CONTAMINATION
    told = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return {name: len(rows) for name, rows in told.items()}


def _unlabelled(texts: Sequence[str]) -> list[str]:
    """The texts without the label that all of them begin with, as `Question:`; one alone is given whole."""
    found = [_LABEL.match(text) for text in texts]
    labels = {match and match[0] for match in found}
    label = labels.pop() if len(labels) == 1 and len(texts) > 1 else None
    return [text.removeprefix(label or "") or text for text in texts]


def _training(config: EvalConfig) -> Iterator[tuple[str, list[str]]]:
    for record in formats.iter_records(config.training_data):
        yield f"{record.source}:{record.line}", _messages(record)


def _messages(record: Any) -> list[str]:
    if isinstance(record, PreferencePair):
        messages = (*record.prompt, *record.chosen, *record.rejected)
    elif isinstance(record, LabelledAnswer):
        messages = (*record.prompt, *record.completion)
    else:
        messages = record.messages
    return [message.content for message in messages]
