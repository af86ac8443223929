"""Preference pairs out of scored samples, prompt by prompt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import orjson

from autoalign import plugins
from autoalign.curation.answers import Answer, AnswerRow
from autoalign.curation.candidates import Candidate, Rules, Strategy
from autoalign.curation.scores import score_of
from autoalign.curation.spool import Groups
from autoalign.errors import DataError
from autoalign.formats import RawRow
from autoalign.formats._stream import OnProblem
from autoalign.records import Conversation, Message, PreferencePair

STRATEGIES = "autoalign.curation.strategies"
_MORE = (
    "a pair needs answers to one prompt that differ in their scores: draw more of them (infer --n, "
    "--temperature), from easier or harder prompts, or score them with a scorer that tells more apart"
)


@dataclass
class PairReport:
    """What was made of the samples.

    Attributes:
        without: prompts without a pair, by reason.
        empty: answers left out because they say nothing.
        repeated: answers left out because another to the same prompt says the same.
        margin_sum: of all pairs' score differences.
    """

    answers: int = 0
    prompts: int = 0
    pairs: int = 0
    without: Counter[str] = field(default_factory=Counter)
    empty: int = 0
    repeated: int = 0
    margin_sum: float = 0.0

    def lines(self) -> Iterator[str]:
        """For the terminal."""
        paired = self.prompts - self.without.total()
        yield f"{self.pairs:,} pairs from {paired:,} of {self.prompts:,} prompts ({self.answers:,} answers)"
        if self.pairs:
            yield f"  mean margin {self.margin_sum / self.pairs:.4f}"
        if self.empty or self.repeated:
            yield f"  left out: {self.empty:,} empty answers, {self.repeated:,} that repeat another"
        if self.without:
            yield f"  {self.without.total():,} prompts without a pair:"
        for reason, count in self.without.most_common():
            yield f"    {count:>9,}  {reason}"


@dataclass(frozen=True)
class PairMaker:
    """Makes the pairs.

    Args:
        strategy: a file of `strategies/`.
        score: which score decides; None: the only one there is.
        with_margin: write the scores' difference as the pair's `margin`, which `rm` trains with.
    """

    strategy: str
    rules: Rules
    score: str | None = None
    with_margin: bool = False

    def pairs(
        self, rows: Iterator[AnswerRow], folder: Path, report: PairReport, on_problem: OnProblem
    ) -> Iterator[PreferencePair]:
        """The pairs of all rows; counts go into `report`, rows without their score to `on_problem`.

        Raises:
            DataError: there is not a single pair.
        """
        strategy = cast(Strategy, plugins.load(STRATEGIES, self.strategy))
        with Groups(folder) as groups:
            for row in rows:
                try:
                    groups.add(row.answers[0].group, _packed(row, self.score))
                except DataError as error:
                    problem = DataError(error.message, *row.place, error.field)
                    on_problem(problem, RawRow(row.place[1], row.fields))
            for group in groups:
                yield from self._of_prompt([orjson.loads(each) for each in group], strategy, report)
        if not report.pairs:
            raise DataError("\n".join(["no pair can be made:", *report.lines(), _MORE]))

    def _of_prompt(
        self, samples: Sequence[dict[str, object]], strategy: Strategy, report: PairReport
    ) -> Iterator[PreferencePair]:
        report.prompts += 1
        report.answers += len(samples)
        prompt = _messages(samples[0]["prompt"])
        name = str(samples[0]["prompt_id"])
        candidates = _distinct([_candidate(sample) for sample in samples], report)
        if len(candidates) < 2:
            report.without["fewer than two different answers"] += 1
            return
        rules = replace(self.rules, seed=f"{self.rules.seed} {name}")
        choice = strategy.choose(candidates, rules)
        if not choice.pairs:
            report.without[choice.reason] += 1
        for index, (chosen, rejected) in enumerate(choice.pairs):
            report.pairs += 1
            report.margin_sum += chosen.score - rejected.score
            pair = self._pair(f"{name}-{index}", prompt, chosen, rejected)
            tools = samples[0]["tools"]
            yield replace(pair, extra={**pair.extra, "tools": tools}) if tools else pair

    def _pair(
        self, name: str, prompt: tuple[Message, ...], chosen: Candidate, rejected: Candidate
    ) -> PreferencePair:
        margin = chosen.score - rejected.score
        why = {
            "strategy": self.strategy,
            "score": self.score,
            "score_chosen": chosen.score,
            "score_rejected": rejected.score,
            "chosen_id": chosen.id,
            "rejected_id": rejected.id,
        }
        given = {key: value for key, value in why.items() if value is not None}
        shown = margin if self.with_margin else None
        return PreferencePair(name, prompt, chosen.answer, rejected.answer, margin=shown, extra=given)


def _packed(row: AnswerRow, score: str | None) -> bytes:
    """What pairing needs of a row."""
    if len(row.answers) > 1:
        raise DataError("a pair already; rows of one answer are expected")
    (answer,) = row.answers
    value = score_of(row.fields, score)
    if value != value:
        raise DataError("its score is no number", field="scores")
    conversation = answer.conversation
    return orjson.dumps(
        {
            "id": conversation.id,
            "prompt_id": row.fields.get("prompt_id", conversation.id),
            "prompt": [message.to_dict() for message in answer.prompt],
            "answer": [message.to_dict() for message in _turns(answer)],
            "tools": [dict(tool) for tool in conversation.tools],
            "score": value,
        },
        default=str,
    )


def _turns(answer: Answer) -> tuple[Message, ...]:
    conversation: Conversation = answer.conversation
    return conversation.messages[-answer.size :]


def _messages(rows: object) -> tuple[Message, ...]:
    turns = cast("list[dict[str, object]]", rows)
    messages = []
    for turn in turns:
        calls = tuple(cast("list[dict[str, object]]", turn.pop("tool_calls", [])))
        messages.append(Message(tool_calls=calls, **turn))  # type: ignore[arg-type]
    return tuple(messages)


def _candidate(sample: dict[str, object]) -> Candidate:
    return Candidate(str(sample["id"]), _messages(sample["answer"]), float(cast(float, sample["score"])))


def _distinct(candidates: Sequence[Candidate], report: PairReport) -> list[Candidate]:
    """Those that say something, each text once: DPO refuses empty answers, and pairs of the same."""
    found: dict[str, Candidate] = {}
    for candidate in candidates:
        if not candidate.text.strip() and not candidate.answer[-1].tool_calls:
            report.empty += 1
        elif candidate.text in found:
            report.repeated += 1
        else:
            found[candidate.text] = candidate
    return list(found.values())
