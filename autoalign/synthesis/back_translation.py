"""Instruction back-translation, "Humpback" (arXiv:2308.06259, sections 2.2 and 2.3).

From answers to instructions. Self-augmentation: for each text the model writes the instruction that
the text would answer. Self-curation: the model rates each pair from 1 to 5, and pairs of `min_score`
or more are kept (the paper's final model is trained on those of 5). The paper's backward model is
one fine-tuned on pairs turned round; any model that follows prompts will do here. Its second
iteration is this command again, with the model that was trained on the first one's rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from autoalign.errors import ConfigError
from autoalign.synthesis._job import Job, Reply, Row, Seed, conversation

SEEDS = "texts"
ENDLESS = False
_SCORE = re.compile(r"score\W{0,4}\s*([1-5])(?!\d|\.\d)", re.IGNORECASE)


@dataclass(frozen=True)
class Options:
    """What may be set; `min_score`: the least rating of a pair that is kept, 1 to 5."""

    min_score: int = 5

    def __post_init__(self) -> None:
        if not 1 <= self.min_score <= 5:
            raise ConfigError(f"min_score is {self.min_score}; the rating goes from 1 to 5")


def run(job: Job, options: Options) -> Iterator[Row]:
    """One row a text."""
    seen: set[str] = set()
    for batch in job.batches(job.seeds):
        fresh = []
        for seed in batch:
            if seed.text in seen:
                yield Row(seed.id, (), "a text that was there before")
            else:
                seen.add(seed.text)
                fresh.append(seed)
        yield from _pairs(job, options, fresh)


def _pairs(job: Job, options: Options, seeds: list[Seed]) -> Iterator[Row]:
    instructions = job.generate(
        [
            job.ask(f"{seed.id}/instruction", job.prompts.render("instruction", text=seed.text))
            for seed in seeds
        ]
    )
    usable = [(seed, said) for seed, said in zip(seeds, instructions, strict=True) if not said.problem]
    ratings = job.generate(
        [
            job.ask(
                f"{seed.id}/rating",
                job.prompts.render("rating", instruction=said.text, answer=seed.text),
                greedy=True,
            )
            for seed, said in usable
        ]
    )
    rated = {seed.id: rating for (seed, _), rating in zip(usable, ratings, strict=True)}
    for seed, said in zip(seeds, instructions, strict=True):
        yield _row(seed, said, rated.get(seed.id), options)


def _row(seed: Seed, instruction: Reply, rating: Reply | None, options: Options) -> Row:
    if instruction.problem or rating is None:
        return Row(seed.id, (), f"instruction: {instruction.problem}")
    pair = conversation(instruction.text, seed.text)
    score = read_score(rating.text)
    if score is None:
        return Row(seed.id, pair, "no score in the rating", {"rating": rating.text})
    reason = None if score >= options.min_score else "a low score"
    return Row(seed.id, pair, reason, {"score": score})


def read_score(text: str) -> int | None:
    """The last whole number from 1 to 5 that follows the word "score"; None without one."""
    found = _SCORE.findall(text)
    return int(found[-1]) if found else None
