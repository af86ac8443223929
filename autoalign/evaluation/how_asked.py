"""How models were asked: what a reader of a comparison must know, and what makes one unfair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autoalign.evaluation.compare import Evaluated

# Keys of the config, and what they are called in a report.
_SHOWN = {
    "model_path": "model",
    "endpoint": "endpoint",
    "backend": "backend",
    "template_name": "chat template",
    "limit": "questions of each benchmark",
    "num_runs": "answers to each question",
    "temperature": "temperature",
    "max_new_tokens": "longest answer (tokens)",
    "seed": "seed",
    "dtype": "number type",
    "judge_model": "judges",
    "safety_by": "refusals told by",
}
_OWN = ("model_path", "endpoint", "backend", "template_name", "dtype")  # a model's own affair
_NONE = {
    "template_name": "the model's own",
    "limit": "all",
    "temperature": "each benchmark's own",
    "max_new_tokens": "each benchmark's own",
}


def settings(models: Sequence[Evaluated]) -> list[list[str]]:
    """A row for each setting that is set for one of the models, a column for each model."""
    rows = [
        [title, *(_text(key, each.keys) for each in models)]
        for key, title in _SHOWN.items()
        if key in _NONE or any(each.keys.get(key) not in (None, [], "") for each in models)
    ]
    return [["setting", *(each.name for each in models)], *rows]


def cautions(models: Sequence[Evaluated]) -> list[str]:
    """What a reader should know before believing the figures."""
    said = []
    for key, title in _SHOWN.items():
        given = [_text(key, each.keys) for each in models]
        if key not in _OWN and len(set(given)) > 1:
            told = ", ".join(f"{each.name} {text}" for each, text in zip(models, given, strict=True))
            said.append(f"The models were not asked alike: {title}: {told}.")
    for each in models:
        for result in each.results:
            if result.error is not None:
                said.append(f"{each.name} has no figure on {result.benchmark}: {result.error}.")
            if left_out := result.notes.get("left_out"):
                said.append(f"{each.name}, {result.key}: {left_out} questions without a score are left out.")
        for name, count in each.contaminated.items():
            if count:
                said.append(f"{each.name} was trained on data that holds {count} questions of {name}.")
    return said


def _text(key: str, keys: Mapping[str, Any]) -> str:
    value = keys.get(key)
    if value in (None, [], ""):
        return _NONE.get(key, "-")
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
