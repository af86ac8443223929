"""`--reuse` goes on with the same evaluation alone: of the same model, asked in the same way.

Who judges may change: answers stay, and are judged anew.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from autoalign import manifest
from autoalign.atomic_files import write_text
from autoalign.config.evaluate import EvalConfig
from autoalign.errors import ConfigError
from autoalign.evaluation import finished, judged_by
from autoalign.evaluation.judged_by import model_digest, template_digest
from autoalign.evaluation.layout import Layout
from autoalign.evaluation.results import Result, read_results

# Keys that change answers; where a model is served and where data lies may change.
_KEYS = (
    *("template_name", "limit", "num_runs", "temperature", "seed", "max_new_tokens", "dtype"),
    "max_model_len",
)
_DIGEST, _CONTENTS = "model_digest", "contents"
_DATA, _OPENCOMPASS = "data", "opencompass"  # which how_asked shows
_SETS = "opencompass_data"
_JUDGED = "judged_by"
_TOKENIZER = ("chat_template.jinja", "tokenizer_config.json", "tokenizer.json")


def note(
    layout: Layout,
    config: EvalConfig,
    folder: Path | None,
    data: Mapping[str, Path] | None = None,
    opencompass: str | None = None,
    sets: Mapping[str, str] | None = None,
) -> None:
    """Write eval.json: the config, what the model is, and digests of what else the config names.

    With `reuse`, what an earlier run noted of other benchmarks stays.

    Args:
        data: of our own benchmarks, by name.
        opencompass: its version, where it is asked.
        sets: digests of the data of its sets, by abbreviation.
    """
    before = _noted(layout) if config.reuse else {}
    files = {name: str(path.absolute()) for name, path in (data or {}).items()}
    told = {
        **config.model_dump(),
        _DIGEST: model_digest(folder),
        _JUDGED: judged_by.digest(config),
        _CONTENTS: _contents(config, folder),
        _DATA: {**before.get(_DATA, {}), **files},
        _OPENCOMPASS: opencompass or before.get(_OPENCOMPASS),
        _SETS: {**before.get(_SETS, {}), **(sets or {})},
    }
    write_text(layout.keys, json.dumps(told, indent=1, default=str) + "\n")


def noted_sets(layout: Layout) -> dict[str, str]:
    """The `sets` that earlier runs noted; none where that was not done yet."""
    return dict(_noted(layout).get(_SETS, {}))


def require_same(
    layout: Layout, config: EvalConfig, folder: Path | None, asked: Collection[str] = ()
) -> None:
    """Raises ConfigError where an earlier run into the folder was another evaluation, with what differs.

    Args:
        asked: our own benchmarks of this run; others of an earlier one keep the figures of its judges.
    """
    if told := unlike(layout, config, folder):
        raise ConfigError(
            f"--reuse: {layout.folder} is another evaluation ({'; '.join(told)}): give what it was given, or "
            "--force to start anew, or another --model_id"
        )
    now, before = judged_by.digest(config), _judged_before(layout, config)
    others = finished.others(layout.answers, asked)
    if left := [name for name, judged in others.items() if (judged or before) != now]:
        raise ConfigError(
            f"--reuse: the judges of {layout.folder} or what they are told have changed, and "
            f"{', '.join(left)} would keep the figures of those before: name them in --benchmarks too, or "
            "give another --model_id"
        )


def unlike(layout: Layout, config: EvalConfig, folder: Path | None) -> list[str]:
    """What differs from the earlier run; nothing where there was none."""
    before = _noted(layout)
    if not before:
        return []
    now = json.loads(json.dumps(config.model_dump(), default=str))
    # A model without a digest is known by its name alone.
    keys = _KEYS if before.get(_DIGEST) else ("model_path", *_KEYS)
    changed = [key for key in keys if key in before and before[key] != now[key]]
    told = [f"{key} was {_text(before[key])}, is {_text(now[key])}" for key in changed]
    contents = _contents(config, folder)
    then = before.get(_CONTENTS, contents)
    told += [
        f"the contents of {name} have changed"
        for name in (*_TOKENIZER, "template_name")
        if name not in changed and then.get(name) != contents.get(name)
    ]
    if before.get(_DIGEST) and before[_DIGEST] != model_digest(folder):
        told.insert(0, "the model's weights have changed")
    return told


def with_earlier(layout: Layout, results: Sequence[Result]) -> list[Result]:
    """The results, and those that an earlier run left of other benchmarks; each in its old place."""
    before = read_results(layout.results) if layout.results.is_file() else []
    names = dict.fromkeys(each.benchmark for each in (*before, *results))
    now = {each.benchmark for each in results}
    kept = [each for each in before if each.benchmark not in now]
    return [each for name in names for each in (*kept, *results) if each.benchmark == name]


def _judged_before(layout: Layout, config: EvalConfig) -> str | None:
    """`judged_by.digest` of the earlier run; from an eval.json that lacks it, by the keys alone."""
    before, now = _noted(layout), json.loads(json.dumps(config.model_dump(), default=str))
    is_same = all(before[key] == now[key] for key in judged_by.KEYS if key in before)
    return before.get(_JUDGED, judged_by.digest(config) if is_same else None)


def _noted(layout: Layout) -> dict[str, Any]:
    """What an earlier run wrote into eval.json."""
    if not layout.keys.is_file():
        return {}
    told: dict[str, Any] = json.loads(layout.keys.read_text(encoding="utf-8"))
    return told


def _contents(config: EvalConfig, folder: Path | None) -> dict[str, str]:
    """Digests of what may change under a name that stays: the template, the model's tokenizer."""
    files = {name: folder / name for name in _TOKENIZER} if folder is not None else {}
    found = {name: manifest.file_sha256(file) if file.is_file() else None for name, file in files.items()}
    found["template_name"] = template_digest(config.template_name)
    return {name: digest for name, digest in found.items() if digest is not None}


def _text(value: Any) -> str:
    return (
        "none"
        if value in (None, [])
        else ", ".join(map(str, value))
        if isinstance(value, list)
        else str(value)
    )
