"""Persona-driven synthesis, "Persona Hub" (arXiv:2406.20094).

One text is made for each persona: a prompt puts the persona in front of what to make (`task`, a file
`task_NAME.txt`), and the model then answers the instruction that comes out. Personas are the seeds
themselves, or with `seeds_are: texts` come from texts (Text-to-Persona, section 2.1). `relations`
rounds of Persona-to-Persona (section 2.2, the paper's six) add people who are close to those before.
Personas that share too many words with an earlier one are dropped (section 2.3): the Jaccard
similarity of their word sets, which the paper's MinHash of 1-grams estimates, computed exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from autoalign.errors import ConfigError
from autoalign.synthesis._jaccard import JaccardPool
from autoalign.synthesis._job import Job, Reply, Row, conversation

SEEDS = "personas or texts"
ENDLESS = False
OWN_PROMPTS = "task_"  # a user's folder may hold more of these


@dataclass(frozen=True)
class Options:
    """What may be set.

    Args:
        task: what is made: the name of a prompt `task_NAME.txt`.
        seeds_are: personas, or texts whose readers the personas are.
        relations: rounds of Persona-to-Persona.
        per_persona: instructions for each persona.
        jaccard: personas at least this similar to an earlier one are dropped.
    """

    task: str = "instruction"
    seeds_are: str = "personas"
    relations: int = 0
    per_persona: int = 1
    jaccard: float = 0.9

    def __post_init__(self) -> None:
        if self.seeds_are not in ("personas", "texts"):
            raise ConfigError(f"seeds_are is {self.seeds_are!r}; expected personas or texts")
        if self.relations < 0 or self.per_persona < 1:
            raise ConfigError("relations is 0 or more, per_persona 1 or more")
        if not 0 < self.jaccard <= 1:
            raise ConfigError(f"jaccard is {self.jaccard!r}; expected above 0 and at most 1")


@dataclass(frozen=True)
class _Persona:
    id: str
    text: str


def run(job: Job, options: Options) -> Iterator[Row]:
    """Rows for the seeds' personas first, then for those of each round of relations."""
    job.prompts.render(f"task_{options.task}", persona="")
    pool = JaccardPool(options.jaccard)
    for seeds in job.batches(job.seeds):
        said = [Reply(seed.text) for seed in seeds]
        if options.seeds_are == "texts":
            said = _asked(job, "text_to_persona", [(seed.id, seed.text) for seed in seeds], "text")
        family = [(seed.id, reply) for seed, reply in zip(seeds, said, strict=True)]
        for number in range(options.relations + 1):
            fresh: list[_Persona] = []
            yield from _sift(family, pool, fresh)
            yield from _made(job, options, fresh)
            if number < options.relations:
                related = _asked(job, "relation", [(f"{p.id}+", p.text) for p in fresh], "persona")
                family = [(f"{p.id}+", reply) for p, reply in zip(fresh, related, strict=True)]


def _asked(job: Job, prompt: str, items: list[tuple[str, str]], variable: str) -> list[Reply]:
    asks = [
        job.ask(f"{name}/{prompt}", job.prompts.render(prompt, **{variable: text})) for name, text in items
    ]
    return list(job.generate(asks))


def _sift(found: list[tuple[str, Reply]], pool: JaccardPool, fresh: list[_Persona]) -> Iterator[Row]:
    """Put the new personas into `fresh`; rows for the others."""
    for name, reply in found:
        if reply.problem:
            yield Row(f"{name}/persona", (), f"persona: {reply.problem}")
        elif (earlier := pool.add(reply.text)) is not None:
            facts = {"persona": reply.text, "like": earlier}
            yield Row(f"{name}/persona", (), "a persona like an earlier one", facts)
        else:
            fresh.append(_Persona(name, reply.text))


def _made(job: Job, options: Options, personas: list[_Persona]) -> Iterator[Row]:
    wanted = [(persona, copy) for persona in personas for copy in range(options.per_persona)]
    keys = [f"{persona.id}/{copy}" for persona, copy in wanted]
    prompt = f"task_{options.task}"
    made = job.generate(
        [
            job.ask(f"{key}/instruction", job.prompts.render(prompt, persona=persona.text))
            for key, (persona, _) in zip(keys, wanted, strict=True)
        ]
    )
    live = [(key, reply.text) for key, reply in zip(keys, made, strict=True) if not reply.problem]
    answers = job.generate([job.ask(f"{key}/answer", text) for key, text in live])
    answered = {key: reply for (key, _), reply in zip(live, answers, strict=True)}
    for key, (persona, _), instruction in zip(keys, wanted, made, strict=True):
        yield _row(key, persona, instruction, answered.get(key))


def _row(key: str, persona: _Persona, instruction: Reply, answer: Reply | None) -> Row:
    facts = {"persona": persona.text}
    if answer is None:
        return Row(key, (), f"instruction: {instruction.problem}", facts)
    reason = f"answer: {answer.problem}" if answer.problem else None
    return Row(key, conversation(instruction.text, answer.text), reason, facts)
