"""Questions that the model may have seen: training data that shares a run of words with them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from autoalign import formats
from autoalign.atomic_files import write_text
from autoalign.config.evaluate import EvalConfig
from autoalign.curation.overlap import Overlap
from autoalign.evaluation.benchmark import Benchmark
from autoalign.evaluation.layout import Layout
from autoalign.evaluation.opencompass.run import Plan
from autoalign.evaluation.results import read_questions
from autoalign.records import LabelledAnswer, PreferencePair

_FILE = "contamination.json"


def search(config: EvalConfig, own: Sequence[Benchmark], plan: Plan | None, layout: Layout) -> dict[str, int]:
    """How many questions of each benchmark share 13 words in a row with `training_data`.

    Which ones, and where in the data, goes into contamination.json. Data sets of OpenCompass are searched
    by the prompts that it asked; what a prompt repeats in every question (its examples) is left out.
    """
    if not config.training_data:
        return {}
    texts = {each.name: [(ask.id, ask.text) for ask in each.asks] for each in own}
    for each in plan.configs if plan else ():
        file = layout.questions / f"{each.name}.jsonl"
        asked = read_questions(file) if file.is_file() else []
        own_part = without_common_start([question.prompt for question in asked])
        texts[each.name] = [(question.id, text) for question, text in zip(asked, own_part, strict=True)]
    found: dict[str, dict[str, str]] = {name: {} for name in texts}
    known = {
        name: {f"{name}\0{id}": Overlap([(id, text)]) for id, text in rows} for name, rows in texts.items()
    }
    everything = Overlap((f"{name}\0{id}", text) for name, rows in texts.items() for id, text in rows)
    for place, text in _training(config):
        if everything.match(text) is None:
            continue
        for name, questions in known.items():
            for key, overlap in questions.items():
                if key not in found[name] and overlap.match(text) is not None:
                    found[name][key] = place
    told = {
        name: [{"question": key.partition("\0")[2], "training_row": place} for key, place in rows.items()]
        for name, rows in found.items()
    }
    write_text(layout.folder / _FILE, json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    return {name: len(rows) for name, rows in found.items()}


def without_common_start(prompts: Sequence[str]) -> list[str]:
    """Each prompt without the paragraphs that all of them begin with."""
    parts = [prompt.split("\n\n") for prompt in prompts]
    if len(parts) < 2:
        return list(prompts)
    shared = 0
    shortest = min(len(part) for part in parts)
    while shared < shortest - 1 and len({part[shared] for part in parts}) == 1:
        shared += 1
    return ["\n\n".join(part[shared:]) for part in parts]


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
