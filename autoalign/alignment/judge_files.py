"""The prompt files behind a judge's verdicts: options name them, so their texts go into a stage's hash.

Each function gives SHA-256 digests by name, `judge/pairwise.txt`, of files in `autoalign/prompts`; a file of
the user's own is named by its path, which the loop looks up itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from autoalign import manifest
from autoalign.algorithms import Algorithm
from autoalign.judging import forms, prompts, refusals

Digests = dict[str, str]
_POINTS_PROMPT = "additive"  # what `compare_by: points` asks, whatever `judge_prompt` says


def of_data(built: Algorithm, guided: bool) -> Digests:
    """Those of an algorithm's judges; none where nobody is asked."""
    options = asdict(built.options)
    if not built.judges or options.get("source", "judge") != "judge":
        return {}
    if options.get("compare_by") == "points":
        options["judge_prompt"] = _POINTS_PROMPT
    own = [each for each in vars(built.module).values() if isinstance(each, forms.Form)]
    return _digests(options.values(), (forms.POINTS, forms.PREFERENCE, *own) if guided else ())


def of_comparisons(named: Iterable[str], guided: bool) -> Digests:
    """Those of judges that compare two answers; `named`: their prompts."""
    return _digests(named, (forms.PREFERENCE,) if guided else ())


def of_verifier(name: str | None, options: Mapping[str, Any]) -> Digests:
    """The rules of `refusal`; the other scorers that can be verifiers have no files of ours."""
    if name != "refusal":
        return {}
    known = _files(refusals.RULES, "*.txt")
    given = options.get("refusal_rules") or known
    return {f"refusal/{each}.txt": manifest.file_sha256(known[each]) for each in given if each in known}


def _digests(named: Iterable[object], guides: Iterable[forms.Form[Any]]) -> Digests:
    """With the rules that tell a judge's refusal from a verdict."""
    return dict(sorted((name, manifest.file_sha256(path)) for name, path in _used(named, guides)))


def _used(named: Iterable[object], guides: Iterable[forms.Form[Any]]) -> Iterator[tuple[str, Path]]:
    known = _files(prompts.FOLDER, "*.txt")
    for name in named:
        if isinstance(name, str) and name in known:
            yield f"judge/{name}.txt", known[name]
    for form in guides:
        yield f"guided/{form.name}.json", forms.FOLDER / f"{form.name}.json"
    for name, path in _files(refusals.RULES, "*.txt").items():
        yield f"refusal/{name}.txt", path


def _files(folder: Path, pattern: str) -> dict[str, Path]:
    return {path.stem: path for path in folder.glob(pattern)}
