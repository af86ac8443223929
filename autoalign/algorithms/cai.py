"""Constitutional AI (arXiv:2212.08073).

`stage: revision` (section 3): the model answers a prompt that provokes harm, criticises its answer by a
principle drawn from the constitution, and rewrites it; then again with another principle, `revisions`
times. The revisions of every step are fine-tuned on, so that the first answer is what is unlearned;
`keep: last` keeps the final one alone. A step that fails ends the chain, and the revisions before it
stay. A first answer or a critique that was cut off is read as far as it goes; a revision has to be whole,
since it is learned. The paper mixes answers to helpful prompts into the fine-tuning; here the prompts are
what `prompt_path` holds, so give it harmless ones beside those that provoke harm.

`stage: feedback` (section 4): the fine-tuned model answers each prompt twice. A feedback model is shown
both with one principle, drawn for the prompt, and says which is better. The paper takes the
probabilities of "(A)" and "(B)" as soft labels; here the judge is asked in both orders, and pairs where
the two verdicts disagree or are ties are dropped. The pairs train by DPO, where the paper trains a
preference model on them and then by RL.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from autoalign.algorithms._drawing import Drawing, Text, draw, problem_unless_cut_off
from autoalign.algorithms._job import Job, Prompt
from autoalign.algorithms._judge import Verdict, in_both_orders
from autoalign.algorithms._made import Dropped, Example, Made, Pair
from autoalign.algorithms._rating import compare_by, require_comparison
from autoalign.errors import ConfigError
from autoalign.records import Message
from autoalign.synthesis import Ask

REVISED = "revised after a critique by the principle"
PREFERRED = {
    "choice": "the judge prefers chosen by the principle, in both orders",
    "points": "the judge gives chosen more points, the principle being part of the question",
}
_TIES = {"choice": "the judge sees no winner in both orders", "points": "both get the same points"}


@dataclass(frozen=True)
class Options:
    """What may be set.

    Args:
        stage: "revision" makes examples, "feedback" pairs.
        revisions: critiques and revisions of each answer.
        keep: revisions to learn from, "all" or "last".
        judge: who gives the feedback: "judge", or "policy" itself.
        compare_by: "choice", or "points" for judges that choose by the place alone: each answer is rated.
    """

    stage: str = "revision"
    revisions: int = 4
    keep: str = "all"
    judge: str = "judge"
    temperature: float = 1.0
    compare_by: str = "choice"

    def __post_init__(self) -> None:
        if self.stage not in ("revision", "feedback"):
            raise ConfigError(f"stage is '{self.stage}'; expected revision or feedback")
        if self.keep not in ("all", "last"):
            raise ConfigError(f"keep is '{self.keep}'; expected all or last")
        require_comparison(self.compare_by)
        if self.revisions < 1:
            raise ConfigError(f"revisions is {self.revisions}; expected 1 or more")


def makes(options: Options) -> str:
    """Examples first, pairs later."""
    return "examples" if options.stage == "revision" else "pairs"


def run(job: Job, options: Options) -> Iterator[Made]:
    """One of the two stages."""
    for batch in job.batches():
        yield from (_revise if options.stage == "revision" else _feed_back)(job, options, batch)


def _revise(job: Job, options: Options, batch: Sequence[Prompt]) -> Iterator[Made]:
    first = draw(job, batch, Drawing("initial", temperature=options.temperature, whole=False))
    chains: dict[str, list[str]] = {}
    for prompt, drawn in zip(batch, first, strict=True):
        yield from drawn.dropped
        if drawn.texts:
            chains[prompt.id] = [drawn.texts[0].text]
    live = [prompt for prompt in batch if prompt.id in chains]
    for step in range(1, options.revisions + 1):
        yield from _step(job, options, live, chains, step)
        live = [prompt for prompt in live if len(chains[prompt.id]) == step + 1]
    for prompt in batch:
        chain = chains.get(prompt.id, [])
        for step in range(1, len(chain)):
            if options.keep == "all" or step == len(chain) - 1:
                yield Example(
                    f"{prompt.id}/revision-{step}",
                    prompt.id,
                    (*prompt.messages, Message("assistant", chain[step])),
                    REVISED,
                    {"step": step, "principle": job.principle(prompt.id, step), "before": chain[step - 1]},
                )


def _step(
    job: Job, options: Options, live: Sequence[Prompt], chains: dict[str, list[str]], step: int
) -> Iterator[Made]:
    """Every chain gets its next revision; those that do not are told of and stay as they are."""
    critiques = job.generate([_ask(job, options, prompt, chains, step) for prompt in live])
    said: dict[str, str] = {}
    for prompt, reply in zip(live, critiques, strict=True):
        problem = problem_unless_cut_off(reply)
        if problem is None:
            said[prompt.id] = reply.text
        else:
            yield Dropped(f"{prompt.id}/critique-{step}", prompt.id, f"critique: {problem}")
    going_on = [prompt for prompt in live if prompt.id in said]
    revisions = job.generate(
        [_ask(job, options, prompt, chains, step, said[prompt.id]) for prompt in going_on]
    )
    for prompt, reply in zip(going_on, revisions, strict=True):
        if reply.problem:
            yield Dropped(f"{prompt.id}/revision-{step}", prompt.id, f"revision: {reply.problem}")
        else:
            chains[prompt.id].append(reply.text)


def _ask(
    job: Job, options: Options, prompt: Prompt, chains: dict[str, list[str]], step: int, critique: str = ""
) -> Ask:
    """The ask for a critique, or with one for the revision."""
    name = "revision" if critique else "critique"
    text = job.texts.render(
        name,
        conversation=prompt.shown(),
        answer=chains[prompt.id][-1],
        principle=job.principle(prompt.id, step),
        critique=critique,
    )
    return Ask(f"{prompt.id}/{name}-{step}", (Message("user", text),), temperature=options.temperature)


def _feed_back(job: Job, options: Options, batch: Sequence[Prompt]) -> Iterator[Made]:
    drawn = draw(job, batch, Drawing("answer", 2, temperature=options.temperature))
    rivals: list[tuple[Prompt, list[Text]]] = []
    for prompt, answers in zip(batch, drawn, strict=True):
        yield from answers.dropped
        if len(answers.texts) == 2:
            rivals.append((prompt, answers.texts))
    for (prompt, (a, b)), verdict in zip(rivals, _verdicts(job, options, rivals), strict=True):
        facts = {"principle": job.principle(prompt.id, "feedback")}
        if verdict.value is None:
            yield Dropped(prompt.id, prompt.id, verdict.problem, facts)
            continue
        if verdict.value == 0.5:
            yield Dropped(prompt.id, prompt.id, _TIES[options.compare_by], facts)
            continue
        better, worse = (a, b) if verdict.value else (b, a)
        ids = {"chosen_id": better.key, "rejected_id": worse.key}
        why = PREFERRED[options.compare_by]
        yield Pair(prompt.id, prompt.id, prompt.messages, better.text, worse.text, why, {**facts, **ids})


def _verdicts(
    job: Job, options: Options, rivals: Sequence[tuple[Prompt, list[Text]]]
) -> list[Verdict[float]]:
    if options.compare_by == "choice":
        asks = [_question(job, options, *rival, order) for rival in rivals for order in ("ab", "ba")]
        return in_both_orders(job, asks)
    matches = [
        (f"{prompt.id}/feedback", _ruled(prompt, job.principle(prompt.id, "feedback")), a.text, b.text)
        for prompt, (a, b) in rivals
    ]
    return compare_by("points", job, matches, options.judge)


def _ruled(prompt: Prompt, principle: str) -> Prompt:
    question = f"{prompt.question}\n\n(The assistant is to keep to this rule: {principle})"
    return replace(prompt, messages=prompt.asking(question))


def _question(job: Job, options: Options, prompt: Prompt, answers: Sequence[Text], order: str) -> Ask:
    first, second = answers if order == "ab" else answers[::-1]
    text = job.texts.render(
        "feedback",
        conversation=prompt.shown(),
        principle=job.principle(prompt.id, "feedback"),
        answer_a=first.text,
        answer_b=second.text,
    )
    return Ask(f"{prompt.id}/feedback/{order}", (Message("user", text),), options.judge, 0.0)
