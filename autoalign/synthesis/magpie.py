"""Magpie (arXiv:2406.08464, section 2): an aligned model writes the user's turn too.

Step 1: the model is fed what its chat template puts in front of a user's turn, and nothing more;
what it writes up to the turn's end is an instruction. Step 2: the instruction is asked as usual
(greedily, as in the paper). With `turns` above 1, the template's opening of the next user turn
follows the answer, as in the paper's multi-turn set. Dropped: turns that are empty or cut off, and
instructions that came before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count

from autoalign.errors import ConfigError
from autoalign.records import Message
from autoalign.synthesis._job import Ask, Job, Reply, Row

SEEDS = None
ENDLESS = True
WRITES_QUESTIONS = True


@dataclass(frozen=True)
class Options:
    """What may be set.

    Args:
        turns: questions, each with its answer, of a conversation.
        greedy_answers: answers take the likeliest tokens; false: sampled as the instructions are.
    """

    turns: int = 1
    greedy_answers: bool = True

    def __post_init__(self) -> None:
        if self.turns < 1:
            raise ConfigError(f"turns is {self.turns}; expected 1 or more")


@dataclass
class _Draft:
    """A conversation under way; `reason`: why it ended early."""

    id: str
    messages: tuple[Message, ...]
    reason: str | None = None
    facts: dict[str, str] = field(default_factory=dict)

    def take(self, role: str, reply: Reply) -> None:
        """Add a turn, or end."""
        if reply.problem:
            self.reason = f"{role}: {reply.problem}"
        else:
            speaker = Message("user", reply.text)
            self.messages += (speaker if role == "instruction" else replace(speaker, role="assistant"),)


def run(job: Job, options: Options) -> Iterator[Row]:
    """Conversations without end; the first instructions are all different."""
    seen: dict[str, str] = {}
    for batch in job.batches(count()):
        drafts = [_Draft(f"magpie-{number}", job.system) for number in batch]
        for turn in range(options.turns):
            _write(job, drafts, turn, "instruction", greedy=False)
            if turn == 0:
                _drop_repeated(drafts, seen)
            _write(job, drafts, turn, "answer", greedy=options.greedy_answers)
        for draft in drafts:
            yield Row(draft.id, draft.messages, draft.reason, draft.facts)


def _write(job: Job, drafts: list[_Draft], turn: int, role: str, greedy: bool) -> None:
    live = [draft for draft in drafts if draft.reason is None]
    temperature = 0.0 if greedy else None
    asks = [Ask(f"{draft.id}/{turn}/{role}", draft.messages, temperature=temperature) for draft in live]
    if role == "instruction":
        asks = [replace(ask, writes="question") for ask in asks]
    for draft, reply in zip(live, job.generate(asks), strict=True):
        draft.take(role, reply)


def _drop_repeated(drafts: list[_Draft], seen: dict[str, str]) -> None:
    for draft in drafts:
        if draft.reason is None:
            words = " ".join(draft.messages[-1].content.lower().split())
            earlier = seen.setdefault(words, draft.id)
            if earlier != draft.id:
                draft.reason, draft.facts = "an instruction that came before", {"like": earlier}
