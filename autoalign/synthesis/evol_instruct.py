"""Evol-Instruct (arXiv:2304.12244, section 3): instructions made harder, and other ones, round by round.

In each of `rounds` rounds every instruction of the pool is rewritten by one of six prompts, picked
with equal chances: five of in-depth evolving (add a constraint, deepen, concretize, more steps of
reasoning, a more complicated input) and one of in-breadth evolving (a new instruction of the same
field, but rarer). The model then answers. Elimination (section 3.2, Elimination Evolving) drops it when

1. a judgement by the model finds that it asks for the same as the instruction it came from;
2. the answer holds "sorry" and has under 80 words: the model can't do it;
3. the answer holds nothing but punctuation and stop words;
4. the rewriting copied words of its own prompt ("new instruction", "rewritten prompt", ...).

What is dropped leaves its instruction in the pool as it was; what is kept takes its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from autoalign.errors import ConfigError
from autoalign.synthesis._job import Job, Reply, Row, conversation
from autoalign.synthesis._words import STOP_WORDS

SEEDS = "instructions"
ENDLESS = False
OPERATIONS = ("constraints", "deepening", "concretizing", "reasoning", "complicating", "breadth")
SHORT_ANSWER = 80  # words
_COPIED = re.compile(
    r"\b(?:given|rewritten|created|original|new) (?:prompt|instruction)s?\b|\binstruction below\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Options:
    """What may be set; `rounds`: how often each instruction is evolved (the paper's M = 4)."""

    rounds: int = 4

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ConfigError(f"rounds is {self.rounds}; expected 1 or more")


@dataclass
class _Line:
    """A place of the pool: the instruction that stands there now."""

    id: str
    instruction: str


@dataclass(frozen=True)
class _Try:
    """One rewriting of one instruction."""

    key: str
    line: _Line
    before: str
    operation: str
    evolved: Reply


def run(job: Job, options: Options) -> Iterator[Row]:
    """A row for each instruction and round."""
    pool = [_Line(seed.id, seed.text) for seed in job.seeds]
    for number in range(1, options.rounds + 1):
        for lines in job.batches(pool):
            yield from _evolve(job, lines, number)


def _evolve(job: Job, lines: list[_Line], number: int) -> Iterator[Row]:
    picked = [job.random(line.id, number).choice(OPERATIONS) for line in lines]
    keys = [f"{line.id}/{number}" for line in lines]
    evolved = job.generate(
        [
            job.ask(f"{key}/evolve", job.prompts.render(operation, instruction=line.instruction))
            for key, line, operation in zip(keys, lines, picked, strict=True)
        ]
    )
    tries = [
        _Try(key, line, line.instruction, operation, reply)
        for key, line, operation, reply in zip(keys, lines, picked, evolved, strict=True)
    ]
    reasons = {each.key: _refused(each) for each in tries}
    live = [each for each in tries if reasons[each.key] is None]
    live = list(_with_news(job, live, reasons))
    answers = job.generate([job.ask(f"{each.key}/answer", each.evolved.text) for each in live])
    replies = {each.key: reply for each, reply in zip(live, answers, strict=True)}
    for each in tries:
        yield _settled(each, reasons[each.key], replies.get(each.key))


def _refused(each: _Try) -> str | None:
    if each.evolved.problem:
        return f"instruction: {each.evolved.problem}"
    return "words of the prompt were copied" if _COPIED.search(each.evolved.text) else None


def _with_news(job: Job, tries: list[_Try], reasons: dict[str, str | None]) -> Iterator[_Try]:
    """Those that ask for something else than before."""
    judgements = job.generate(
        [
            job.ask(
                f"{each.key}/equal",
                job.prompts.render("equal", first=each.before, second=each.evolved.text),
                greedy=True,
            )
            for each in tries
        ]
    )
    for each, said in zip(tries, judgements, strict=True):
        if said.finish_reason == "error":
            reasons[each.key] = f"judgement: {said.problem}"
        elif says_equal(said.text):
            reasons[each.key] = "no news against the instruction before"
        else:
            yield each


def _settled(each: _Try, reason: str | None, answer: Reply | None) -> Row:
    facts = {"operation": each.operation, "from": each.before}
    if reason is not None or answer is None:
        return Row(each.key, (), reason, {**facts, "evolved": each.evolved.text})
    row = Row(each.key, conversation(each.evolved.text, answer.text), _useless(answer), facts)
    if row.reason is None:
        each.line.instruction = each.evolved.text
    return row


def says_equal(judgement: str) -> bool:
    """Whether the first of the words "equal" and "not equal" that is said is "equal"."""
    found = re.search(r"\b(not|n't)?\s*equal\b", judgement, re.IGNORECASE)
    return found is not None and not found[1]


def _useless(answer: Reply) -> str | None:
    """Rules 2 and 3, and answers that did not come about."""
    if answer.problem:
        return f"answer: {answer.problem}"
    words = re.findall(r"\w+(?:'\w+)?", answer.text.lower())
    if "sorry" in words and len(words) < SHORT_ANSWER:
        return "the answer is an excuse"
    if all(word in STOP_WORDS for word in words):
        return "the answer is stop words alone"
    return None
