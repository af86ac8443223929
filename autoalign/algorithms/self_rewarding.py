"""Self-rewarding language models (arXiv:2401.10020, sections 2 and 3.1).

`stage: judge` makes the paper's M1: the first model learns to judge, and to follow instructions. For each
prompt with a better and a worse human answer the model rates both by an additive rubric of 0 to 5 points,
`judgments` times each, drawn as below; the paper does not say how many it draws. The two judgments of a
draw are kept where the better answer gets more points, and are then evaluation fine-tuning (EFT) rows: the
judge's question with the judgment as it stands. So that the points are not too skewed, the paper discards
some of the judgments with the most common points; `even_points` draws as many of them as the next most
common points have. The human answers themselves are the instruction fine-tuning (IFT) rows. The paper takes
those from other prompts: so does a prompt with an answer and no worse one here, which gives this row alone.
No reference is shown, since it would be the better answer.

`stage: answer` makes M2 and so on. The policy answers each prompt `candidates` times (4; temperature 0.7,
top_p 0.9), and then judges its own answers by the same rubric, `judgments` times each (3), whose mean is the
score. The best answer is chosen and the worst rejected; where the scores are equal there is no pair.
Training is DPO from the model that made them (beta 0.1), and the next round asks the model that came out.
The paper makes its new prompts with Self-Instruct (`autoalign-cli synthesize`), a step before this one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from autoalign.algorithms._drawing import Drawing, Drawn, Text, draw
from autoalign.algorithms._job import Job, Prompt
from autoalign.algorithms._made import Dropped, Example, Made
from autoalign.algorithms._pairing import pair_up, scored
from autoalign.algorithms._rating import Rated, RatedAnswers, Rating, rate
from autoalign.errors import ConfigError
from autoalign.records import Message

REASON = "chosen has the highest mean score of the answers, rejected the lowest"
HUMAN = "the human answer"
AGREES = "the judgments of this draw give the better human answer more points"
_SIDES = ("better", "worse")


@dataclass(frozen=True)
class Options:
    """What may be set.

    Args:
        stage: "judge" makes examples, "answer" pairs.
        judge: who judges; the paper's is the policy itself, hence the name.
        rubric: a judge prompt's name or file, whose verdicts read `Score: 0` to `Score: 5`.
        with_originals: learn from the human answers too, in `stage: judge`.
        even_points: thin the judgments with the most common points, in `stage: judge`.
    """

    stage: str = "answer"
    candidates: int = 4
    judgments: int = 3
    temperature: float = 0.7
    top_p: float = 0.9
    judge: str = "policy"
    rubric: str = "additive"
    with_originals: bool = True
    even_points: bool = True

    def __post_init__(self) -> None:
        if self.stage not in ("judge", "answer"):
            raise ConfigError(f"stage is '{self.stage}'; expected judge or answer")


class _Judged(NamedTuple):
    """A judgment that is kept, and the points that the other answer got in the same draw."""

    prompt_id: str
    rated: Rated
    other: int

    @property
    def points(self) -> int:
        return self.rated.points[0]


def makes(options: Options) -> str:
    """Examples first, pairs later."""
    return "examples" if options.stage == "judge" else "pairs"


def training(options: Options) -> Mapping[str, Any]:
    """The paper's DPO; nothing where it fine-tunes."""
    return {} if options.stage == "judge" else {"loss_type": ["sigmoid"], "beta": 0.1}


def run(job: Job, options: Options) -> Iterator[Made]:
    """One of the two stages."""
    rating = Rating(options.judge, options.judgments, options.rubric, options.temperature, options.top_p)
    yield from (_teach if options.stage == "judge" else _answer)(job, options, rating)


def _answer(job: Job, options: Options, rating: Rating) -> Iterator[Made]:
    """At most one pair a prompt."""
    drawing = Drawing("answer", options.candidates, "policy", options.temperature, options.top_p)
    for batch in job.batches():
        for prompt, rated, dropped in rate(job, batch, draw(job, batch, drawing), rating):
            yield from dropped
            yield from pair_up(prompt, [scored(one.text, one.mean) for one in rated], REASON)


def _teach(job: Job, options: Options, rating: Rating) -> Iterator[Made]:
    """Human answers as they come, judgments at the end."""
    kept: list[_Judged] = []
    for batch in job.batches():
        ranked = []
        for prompt in batch:
            if _is_ranked(prompt):
                ranked.append(replace(prompt, reference=None))
            if options.with_originals and prompt.answer:
                messages = (*prompt.messages, Message("assistant", prompt.answer))
                yield Example(f"{prompt.id}/human", prompt.id, messages, HUMAN, {"by": "human"})
            elif not _is_ranked(prompt):
                yield Dropped(prompt.id, prompt.id, "the prompt has no better and worse answer")
        shown = [_as_drawn(prompt, options.judgments) for prompt in ranked]
        # Each draw is rated once under a key of its own, so that a pair of judgments stays together.
        for found in rate(job, ranked, shown, replace(rating, times=1)):
            yield from found.dropped
            for one in _agreeing(found, options.judgments):
                if isinstance(one, Dropped):
                    yield one
                else:
                    kept.append(one)
    yield from _examples(kept, _thinned(job, kept) if options.even_points else set())


def _is_ranked(prompt: Prompt) -> bool:
    return bool(prompt.answer and prompt.rejected) and prompt.answer != prompt.rejected


def _as_drawn(prompt: Prompt, times: int) -> Drawn:
    """The better answer and the worse one, `times` over."""
    texts = dict(zip(_SIDES, (prompt.answer or "", prompt.rejected or ""), strict=True))
    keys = [(f"{prompt.id}/{side}-{index}", side) for index in range(times) for side in _SIDES]
    return Drawn([Text(key, texts[side]) for key, side in keys], [])


def _agreeing(found: RatedAnswers, times: int) -> Iterator[_Judged | Dropped]:
    """Both judgments of each draw, or why they are left out."""
    prompt_id = found.prompt.id
    rated = {one.text.key: one for one in found.rated}
    for index in range(times):
        draws = [rated.get(f"{prompt_id}/{side}-{index}") for side in _SIDES]
        both = [one for one in draws if one is not None]
        points = [one.points[0] for one in both]
        rule = _disagreement(points)
        for place, one in enumerate(both):
            if rule is None:
                yield _Judged(prompt_id, one, points[1 - place])
            else:
                yield Dropped(one.text.key, prompt_id, rule, {"points": points[place]})


def _disagreement(points: Sequence[int]) -> str | None:
    """Why the better answer's points and the worse one's are no lesson."""
    if len(points) < len(_SIDES):
        return "the other answer has no judgment"
    better, worse = points
    if better == worse:
        return "both answers get the same points"
    return "the worse answer gets more points" if better < worse else None


def _thinned(job: Job, kept: Sequence[_Judged]) -> set[str]:
    """The keys of judgments with the most common points, over the number of the next most common."""
    counts = Counter(one.points for one in kept).most_common(2)
    if len(counts) < 2:
        return set()
    (common, count), (_, following) = counts
    keys = [one.rated.text.key for one in kept if one.points == common]
    return set(job.random("even points").sample(keys, count - following))


def _examples(kept: Sequence[_Judged], thinned: set[str]) -> Iterator[Made]:
    for one in kept:
        key, facts = one.rated.text.key, {"points": one.points, "other_points": one.other}
        if key in thinned:
            yield Dropped(key, one.prompt_id, "its points are the most common ones", facts)
            continue
        messages = (Message("user", one.rated.question), Message("assistant", one.rated.judgments[0].text))
        yield Example(key, one.prompt_id, messages, AGREES, facts)
