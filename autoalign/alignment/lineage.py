"""Where a model or a training row came from, back to the seed prompt."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from autoalign.alignment.data import DATA, SEEDS, TEXTS
from autoalign.alignment.ledger import Ledger
from autoalign.alignment.stages import Done, StageStore
from autoalign.errors import ConfigError, nearest

_DIGEST = re.compile(r"[0-9a-f]{64}")


def of_model(ledger: Ledger, store: StageStore, model: Path | None = None) -> Iterator[str]:
    """The stages behind a model, the last one first; None takes the promoted one.

    Raises:
        ConfigError: no stage of this job made it.
    """
    path = Path(ledger.policy) if model is None else model.expanduser().resolve()
    if str(path) == ledger.first_model:
        yield f"{path}: the first model; no stage of this job made it"
        return
    done = store.find(path.parent.name) or store.find(path.name)
    if done is None:
        raise ConfigError(f"{path}: no model of the job in {ledger.folder}")
    yield f"{path}"
    yield from _behind(done, store, 1, set())
    yield f"first model: {ledger.first_model}"


def of_row(ledger: Ledger, store: StageStore, name: str) -> Iterator[str]:
    """A training row: its algorithm and reason, who wrote it, and the prompt it began with.

    Raises:
        ConfigError: no row of this job has that id.
    """
    known: list[str] = []
    for entry in ledger.rounds:
        done = store.find(entry.stages.get("data", ""))
        for row in _rows(done):
            known.append(row["id"])
            if row["id"] == name:
                assert done is not None
                yield from _row(row, done, ledger, store)
                return
    raise ConfigError(
        f"no training row has the id '{name}'{nearest(name, known)}; {len(known)} rows are there"
    )


def _behind(done: Done, store: StageStore, depth: int, seen: set[str]) -> Iterator[str]:
    figures = {key: value for key, value in done.figures.items() if isinstance(value, int | float)}
    about = ", ".join(f"{key} {value:g}" for key, value in figures.items())
    yield f"{'  ' * depth}{done.name}, {done.record['finished']}: {about}"
    for name in done.record["after"]:
        before = store.find(name)
        if before is not None and name not in seen:
            seen.add(name)
            yield from _behind(before, store, depth + 1, seen)


def _rows(done: Done | None) -> Iterator[dict[str, Any]]:
    if done is None:
        return
    with (done.folder / DATA).open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _row(row: dict[str, Any], done: Done, ledger: Ledger, store: StageStore) -> Iterator[str]:
    about = dict(row["alignment"])
    number = about.pop("round")
    yield f"{row['id']}: round {number}, {about.pop('algorithm')}: {about.pop('reason')}"
    prompt_id = about.pop("prompt_id")
    for key, value in about.items():
        yield f"  {key}: {value}"
    yield f"  stage {done.name}, texts in {done.folder / TEXTS}"
    yield from _authors(done, ledger, store)
    yield f"  policy of that round: {_policy_before(ledger, int(number))}"
    yield f"  seed prompt {prompt_id}: {_seed(row, prompt_id, done)}"


def _authors(done: Done, ledger: Ledger, store: StageStore) -> Iterator[str]:
    """The roles that the algorithm asked: the model, and the stages behind one that was trained here."""
    models: dict[str, str] = done.record["inputs"]["models"]
    made = _made_here(done, ledger)
    told: set[str] = set()
    asked = done.figures.get("asked", models)  # a stage from before these were counted: all that it might
    for role, model in models.items():
        if role not in asked:
            continue
        yield f"  {role}: {_shown(model)}{_origin(model, made, ledger, store)}"
        trained = store.find(made.get(model, ""))
        if trained is not None and trained.name not in told:
            told.add(trained.name)
            yield from _behind(trained, store, 2, told)


def _made_here(done: Done, ledger: Ledger) -> dict[str, str]:
    """Digests of the models that a data stage asked to the training stages that they came from."""
    models = done.record["inputs"]["models"]
    trained = {entry.stages.get("train"): entry.trains for entry in ledger.rounds}
    found = {trained[name]: name for name in done.record["after"] if name in trained}
    return {models[role]: name for role, name in found.items() if role in models}


def _origin(model: str, made: Mapping[str, str], ledger: Ledger, store: StageStore) -> str:
    if model in made:
        return f", trained by {made[model]}"
    first = store.find(ledger.rounds[0].stages.get("data", ""))
    is_first = first is not None and first.record["inputs"]["models"]["policy"] == model
    return ", the first model" if is_first else ""


def _shown(digest: str) -> str:
    """A folder's digest by its beginning; an endpoint's name as it is."""
    return digest[:16] if _DIGEST.fullmatch(digest) else digest


def _seed(row: dict[str, Any], prompt_id: str, done: Done) -> str:
    """The prompt itself: a row may ask in another way, or for a judgment."""
    path = done.folder / SEEDS
    if path.is_file():
        return str(json.loads(path.read_text(encoding="utf-8"))[prompt_id]).removeprefix("user: ")
    shown = row.get("prompt") or row["messages"]
    return str(next(turn["content"] for turn in reversed(shown) if turn["role"] == "user"))


def _policy_before(ledger: Ledger, number: int) -> str:
    promoted = [
        entry.stages["train"]
        for entry in ledger.rounds[: number - 1]
        if entry.promoted and "train" in entry.stages
    ]
    return promoted[-1] if promoted else ledger.first_model
