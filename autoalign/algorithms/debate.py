"""Multi-agent debate (arXiv:2305.14325, section 2), and what it agrees on as training data.

`agents` copies of the policy (3) answer a question. In each of the `rounds` - 1 rounds that follow (2
rounds in all) every agent is shown the others' last answers and answers again. The majority of the last
round's final answers is what the debate found; the first agent's text that comes to it is fine-tuned on
(as in arXiv:2501.05707). Questions without a majority of more than half are dropped. An agent whose
answer fails leaves the debate, which ends where fewer than two are left.

3 agents, 2 rounds, and that every agent keeps its whole conversation, are those of the authors' code
(composable-models/llm_multiagent_debate, gsm/gen_gsm.py). It draws at its API's own temperature; 0.7 is ours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from autoalign.algorithms._job import Extract, Job, Prompt
from autoalign.algorithms._made import Dropped, Example, Made
from autoalign.errors import ConfigError
from autoalign.records import Message
from autoalign.synthesis import Ask

MAKES = "examples"
REASON = "more than half of the agents came to this answer"


@dataclass(frozen=True)
class Options:
    """What may be set."""

    agents: int = 3
    rounds: int = 2
    temperature: float = 0.7

    def __post_init__(self) -> None:
        if self.agents < 2 or self.rounds < 1:
            raise ConfigError(f"{self.agents} agents, {self.rounds} rounds; expected 2 and 1 or more")


@dataclass
class _Debate:
    """What is said so far: each agent's conversation, its own answers included."""

    prompt: Prompt
    agents: dict[int, tuple[Message, ...]]
    first: dict[int, str] = field(default_factory=dict)

    def last(self) -> dict[int, str]:
        """The agents' last answers."""
        return {agent: turns[-1].content for agent, turns in self.agents.items()}


def run(job: Job, options: Options) -> Iterator[Made]:
    """At most one example a prompt."""
    extract = job.extractor()
    for batch in job.batches():
        debates = [_Debate(prompt, dict.fromkeys(range(options.agents), prompt.messages)) for prompt in batch]
        for number in range(1, options.rounds + 1):
            yield from _round(job, options, debates, number)
            debates = [debate for debate in debates if len(debate.agents) > 1]
        for debate in debates:
            yield _agreed(debate, extract)


def _round(job: Job, options: Options, debates: Sequence[_Debate], number: int) -> Iterator[Made]:
    turns = []
    for debate in debates:
        said = debate.last() if number > 1 else {}
        for agent, messages in debate.agents.items():
            others = [text for other, text in said.items() if other != agent]
            if others:
                update = job.texts.render("update", question=debate.prompt.question, others=others)
                messages = (*messages, Message("user", update))
            turns.append((debate, agent, messages))
    replies = job.generate(
        [
            Ask(f"{debate.prompt.id}/agent-{agent}/round-{number}", shown, temperature=options.temperature)
            for debate, agent, shown in turns
        ]
    )
    for (debate, agent, shown), reply in zip(turns, replies, strict=True):
        if reply.problem is None:
            debate.agents[agent] = (*shown, Message("assistant", reply.text))
            debate.first.setdefault(agent, reply.text)
        else:
            del debate.agents[agent]
            name = f"{debate.prompt.id}/agent-{agent}/round-{number}"
            yield Dropped(name, debate.prompt.id, f"answer: {reply.problem}")
    for debate in debates:
        if len(debate.agents) < 2:
            yield Dropped(debate.prompt.id, debate.prompt.id, "fewer than two agents are left")


def _agreed(debate: _Debate, extract: Extract) -> Made:
    prompt = debate.prompt
    ends = {agent: extract(text) for agent, text in debate.last().items()}
    votes = Counter(end for end in ends.values() if end is not None)
    found, count = votes.most_common(1)[0] if votes else ("", 0)
    if count * 2 <= len(debate.agents):
        return Dropped(prompt.id, prompt.id, "no majority", {"votes": dict(votes)})
    winner = next(agent for agent, end in ends.items() if end == found)
    at_first = sum(extract(text) == found for text in debate.first.values())
    messages = (*prompt.messages, Message("assistant", debate.last()[winner]))
    facts = {"votes": count, "agents": len(debate.agents), "votes_at_first": at_first}
    return Example(f"{prompt.id}/agent-{winner}", prompt.id, messages, REASON, facts)
