"""The graph of a job's stages as text, with times, counts and figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from autoalign.alignment import guards
from autoalign.alignment.ledger import Ledger
from autoalign.alignment.stages import StageStore

_TITLES = {
    "data": "data",
    "train": "train",
    "answers_new": "answers of the new model",
    "answers_policy": "answers of the policy",
    "answers_first": "answers of the first model",
    "evaluation": "evaluation",
}


def lines(ledger: Ledger, store: StageStore) -> Iterator[str]:
    """One line a stage, below its round."""
    yield f"{ledger.algorithm}, from {ledger.first_model}"
    for entry in ledger.rounds:
        verdict = {True: "promoted", False: "kept aside", None: ""}[entry.promoted]
        yield f"round {entry.number}{f': {verdict}' if verdict else ''}"
        seen: set[str] = set()
        for what, name in entry.stages.items():
            done = store.find(name)
            branch = "└─" if what == list(entry.stages)[-1] else "├─"
            if name in seen:
                yield f"  {branch} {_TITLES[what]:<28} as above"
            elif done is None:
                running = (store.root / f".{name}.partial").is_dir()
                yield f"  {branch} {_TITLES[what]:<28} {'started, not finished' if running else 'to do'}"
            else:
                shown = _shown(what, done.figures)
                yield f"  {branch} {_TITLES[what]:<28} {done.record['seconds']:>8.1f} s  {shown}  [{name}]"
            seen.add(name)
        found = store.find(entry.stages.get("evaluation", ""))
        if found is not None:
            yield f"     guards: {guards.shown(found.figures)}"
        if entry.reason:
            yield f"     {entry.reason}"
        for warning in entry.warnings:
            yield f"     warning: {warning}"
    yield f"policy: {ledger.policy}{'' if ledger.finished else ' (the job is not finished)'}"


def _shown(what: str, figures: Mapping[str, Any]) -> str:
    if what == "data":
        dropped = ", ".join(f"{count} {rule}" for rule, count in figures["dropped"].items())
        longer = figures.get("chosen_longer")
        lengths = "" if longer is None else f"; chosen is longer in {longer:.0%}"
        return (
            f"{figures['rows']} rows of {figures['prompts']} prompts{lengths}; dropped: {dropped or 'none'}"
        )
    if what == "train":
        return ", ".join(
            f"{key} {value:g}" for key, value in figures.items() if isinstance(value, int | float)
        )
    if what == "evaluation":
        gain = figures["gain"]
        of = f" of {figures['compared']}/{figures['held_out']} prompts" if "compared" in figures else ""
        return f"gain {gain['value']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]{of}"
    return ", ".join(f"{count} {name}" for name, count in figures.items())
