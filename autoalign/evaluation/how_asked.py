"""How models were asked: what a reader of a comparison must know, and what makes one unfair."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
    "max_model_len": "context (tokens)",
    "seed": "seed",
    "dtype": "number type",
    "judge_model": "judges",
    "judge_prompt": "prompt of comparisons",
    "judge_template": "judges' chat template",
    "judge_guided": "judges held to JSON",
    "judge_max_new_tokens": "longest verdict (tokens)",
    "safety_by": "refusals told by",
    "guard_prompt": "how guards are asked",
    "data_root": "data folder",
    "opencompass": "OpenCompass",
}
_OWN = ("model_path", "endpoint", "backend", "template_name", "dtype")  # a model's own affair
_NONE = {
    "template_name": "the model's own",
    "limit": "all",
    "temperature": "each benchmark's own",
    "max_new_tokens": "each benchmark's own",
    "max_model_len": "the model's own",
    "judge_prompt": "each benchmark's own",
    "judge_template": "the judges' own",
    "data_root": "data",
}
_ALWAYS = ("template_name", "limit", "temperature", "max_new_tokens")


def settings(models: Sequence[Evaluated]) -> list[list[str]]:
    """A row for each setting that is set for one of the models, a column for each model."""
    rows = [
        [title, *(_text(key, each.keys) for each in models)]
        for key, title in _SHOWN.items()
        if key in _ALWAYS or (_matters(key, models) and any(_is_set(key, each.keys) for each in models))
    ]
    rows += [
        [f"data of {name}", *(_file(name, each) or "-" for each in models)]
        for name in dict.fromkeys(name for each in models for name in each.keys.get("data") or ())
    ]
    return [["setting", *(each.name for each in models)], *rows]


def cautions(models: Sequence[Evaluated]) -> list[str]:
    """What a reader should know before believing the figures."""
    said = []
    for title, given in _compared(models):
        if len(set(given.values())) > 1:
            told = ", ".join(f"{name} {text}" for name, text in given.items())
            said.append(f"The models were not asked alike: {title}: {told}.")
    for each in models:
        for result in each.results:
            if result.error is not None:
                said.append(f"{each.name} has no figure on {result.key.strip()}: {result.error}.")
            if left_out := result.notes.get("left_out"):
                said.append(f"{each.name}, {result.key}: {left_out} questions without a score are left out.")
        for name, count in each.contaminated.items():
            if count:
                said.append(f"{each.name} was trained on data that holds {count} questions of {name}.")
    return said


def _compared(models: Sequence[Evaluated]) -> Iterator[tuple[str, dict[str, str]]]:
    """What should be one for all: its title, and what it was for each model of which that is known."""
    for key, title in _SHOWN.items():
        if key not in _OWN and _matters(key, models):
            yield title, {each.name: _text(key, each.keys) for each in models if key in each.keys}
    for name in dict.fromkeys(result.benchmark for each in models for result in each.results):
        asked = [each for each in models if any(result.benchmark == name for result in each.results)]
        yield f"data of {name}", {each.name: file for each in asked if (file := _file(name, each))}


def _matters(key: str, models: Sequence[Evaluated]) -> bool:
    """What judges were given says nothing of models that none has judged."""
    if key == "guard_prompt":
        return any(each.keys.get("safety_by") == "guard" for each in models)
    return not key.startswith("judge_") or any(each.keys.get("judge_model") for each in models)


def _is_set(key: str, keys: Mapping[str, Any]) -> bool:
    return _text(key, keys) not in (_text(key, {}), "no")


def _file(benchmark: str, model: Evaluated) -> str | None:
    """The data of one of our own benchmarks, where that is known."""
    file = (model.keys.get("data") or {}).get(benchmark)
    return None if file is None else str(file)


def _text(key: str, keys: Mapping[str, Any]) -> str:
    value = keys.get(key)
    if key == "template_name" and keys.get("endpoint"):
        return "the server's"
    if value in (None, [], ""):
        return _NONE.get(key, "-")
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
