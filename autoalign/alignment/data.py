"""The data stage: an algorithm run over the round's prompts, rows on disk."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from autoalign import manifest
from autoalign.algorithms import (
    Algorithm,
    Ask,
    Dropped,
    Example,
    Job,
    Made,
    Pair,
    PromptSet,
    Question,
    Reply,
)
from autoalign.algorithms import Prompt as AlignPrompt
from autoalign.alignment.contamination import Hidden
from autoalign.alignment.machinery import Machinery
from autoalign.alignment.places import Places
from autoalign.errors import JobFailed
from autoalign.records import Message, messages_to_dicts

DATA, DROPPED, TEXTS, SEEDS = "data.jsonl", "dropped.jsonl", "texts.jsonl", "prompts.json"


@dataclass(frozen=True)
class DataTask:
    """What a round's data are made of.

    Attributes:
        models: role to model folder.
        hidden: prompts that no training row should share text with; those that do are counted.
    """

    number: int
    algorithm: Algorithm
    prompts: Sequence[AlignPrompt]
    texts: PromptSet
    principles: tuple[str, ...]
    models: Mapping[str, str]
    hidden: Sequence[AlignPrompt]
    seed: int
    tries: int
    judge_guided: bool = False

    def run(self, machinery: Machinery, folder: Path) -> dict[str, Any]:
        """Write `data.jsonl`, `dropped.jsonl` and the prompts behind them, and return what is in them.

        Raises:
            JobFailed: not a single row was kept.
        """
        store = folder / TEXTS
        manifest.write_json(folder / SEEDS, {prompt.id: prompt.shown() for prompt in self.prompts})
        places, asked = Places(), Counter[str]()

        def generate(asks: Sequence[Ask]) -> Sequence[Reply]:
            replies = machinery.sample(self.models, self._named(asks), store)
            places.see(asks, replies)
            asked.update(ask.model for ask in asks)
            return replies

        job = Job(
            self.prompts,
            self.texts,
            generate,
            self.principles,
            machinery.verify,
            machinery.extract,
            machinery.reward,
            self.number,
            self.seed,
            self.tries,
            self.judge_guided,
        )
        hidden = Hidden(self.hidden)
        counts = _Counts()
        with (folder / DATA).open("wb") as kept, (folder / DROPPED).open("wb") as dropped:
            for made in self.algorithm.run(job):
                counts.add(made)
                if isinstance(made, Dropped):
                    _write(dropped, _dropped_row(made))
                    continue
                row = _row(made, {"algorithm": self.algorithm.name, "round": self.number})
                place = hidden.match(made)
                if place is not None:
                    counts.contaminated += 1
                    row["alignment"]["contaminated_by"] = place
                # Unlike the same prompt's row of another round.
                row["id"] = f"round-{self.number}/{made.id}"
                _write(kept, row)
        figures = {**counts.figures(len(self.prompts)), "asked": dict(asked)}
        if places.first is not None:
            figures["judge_first"] = places.first
        if not figures["rows"]:
            reasons = ", ".join(f"{rule} ({count})" for rule, count in figures["dropped"].items())
            raise JobFailed(
                f"round {self.number}: {self.algorithm.name} kept no row: {reasons or 'no prompts'}"
            )
        return figures

    def _named(self, asks: Sequence[Ask]) -> list[Ask]:
        """Another round draws other texts from the same model."""
        return [replace(ask, key=f"round-{self.number}/{ask.key}") for ask in asks]


class _Counts:
    """What the rows come to."""

    def __init__(self) -> None:
        self.reasons: Counter[str] = Counter()
        self.rules: Counter[str] = Counter()
        self.lengths: list[tuple[int, int]] = []
        self.contaminated = 0

    def add(self, made: Made) -> None:
        """Count a row."""
        if isinstance(made, Dropped):
            self.rules[made.rule] += 1
            return
        self.reasons[made.reason] += 1
        if isinstance(made, Pair):
            self.lengths.append((len(made.chosen.split()), len(made.rejected.split())))

    def figures(self, prompts: int) -> dict[str, Any]:
        """JSON values."""
        found: dict[str, Any] = {
            "prompts": prompts,
            "rows": self.reasons.total(),
            "kept": dict(self.reasons.most_common()),
            "dropped": dict(self.rules.most_common()),
            "judge_problems": sum(n for rule, n in self.rules.items() if rule.startswith("judge: ")),
            "contaminated": self.contaminated,
        }
        if self.lengths:
            pairs = len(self.lengths)
            found["chosen_words"] = round(sum(chosen for chosen, _ in self.lengths) / pairs, 2)
            found["rejected_words"] = round(sum(rejected for _, rejected in self.lengths) / pairs, 2)
            found["chosen_longer"] = round(sum(c > r for c, r in self.lengths) / pairs, 4)
        return found


def _row(made: Example | Pair | Question, why: Mapping[str, Any]) -> dict[str, Any]:
    """A row that `sft`, `dpo` or `grpo` takes, with where it came from."""
    about = {**why, "prompt_id": made.prompt_id, "reason": made.reason, **made.facts}
    if isinstance(made, Example):
        return {"id": made.id, "messages": messages_to_dicts(made.messages), "alignment": about}
    prompt = messages_to_dicts(made.prompt)
    if isinstance(made, Pair):
        sides = {"chosen": made.chosen, "rejected": made.rejected}
        turns = {name: messages_to_dicts((Message("assistant", text),)) for name, text in sides.items()}
        return {"id": made.id, "prompt": prompt, **turns, "alignment": about}
    known = {} if made.reference is None else {"reference": made.reference}
    return {"id": made.id, "messages": prompt, **known, "alignment": about}


def _dropped_row(made: Dropped) -> dict[str, Any]:
    return {"id": made.id, "prompt_id": made.prompt_id, "rule": made.rule, **made.facts}


def _write(file: IO[bytes], row: Mapping[str, Any]) -> None:
    file.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
