"""Meta-Rewarding (arXiv:2407.19594, section 2): the model acts, judges, and judges its judgments.

Actor pairs (2.2). The policy answers `candidates` times (7; temperature 0.8, top_p 0.95) and judges
each answer `judgments` times (11); the mean is the score. With `rho`, length is controlled: chosen is
the shortest answer with a score in [(1-rho) max + rho min, max], rejected the longest in [min, (1-rho)
min + rho max]. Pairs whose chosen answer has over `max_chosen_chars` are dropped.

Judge pairs (2.3). Of each prompt, the answer whose judgments vary most is taken. The meta-judge, the
policy again, compares every two of its judgments in both orders. A win counts with the weight of its
place, w_first = wins_second / (wins_first + wins_second) and the other way round, taken over all
comparisons, so that a meta-judge that prefers a place gains nothing. Elo ratings are the maximum of the
likelihood of these wins; the judgment rated highest is chosen, the lowest rejected, on the judge's
prompt. Pairs whose chosen judgment has over `max_judgment_chars` are dropped, since meta-judges like
long ones.

By round (appendix A.3): `rho` 0, 0.32, 0.32, 0.4; `judge_pairs` in the first two alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from autoalign.algorithms._drawing import Drawing, draw
from autoalign.algorithms._elo import Battle, place_weights, ratings
from autoalign.algorithms._job import Job
from autoalign.algorithms._judge import ask_judge
from autoalign.algorithms._made import Dropped, Made, Pair
from autoalign.algorithms._rating import Rated, RatedAnswers, Rating, rate
from autoalign.errors import ConfigError
from autoalign.judging.forms import PREFERENCE
from autoalign.records import Message
from autoalign.synthesis import Ask

MAKES = "pairs"
TRAINING = {"loss_type": ["sigmoid"], "beta": 0.1}
ACTOR = "chosen is the shortest answer of the top tier, rejected the longest of the bottom tier"
JUDGE = "chosen has the highest Elo of the judgments on an answer, rejected the lowest"


@dataclass(frozen=True)
class Options:
    """What may be set; the names are explained above."""

    candidates: int = 7
    judgments: int = 11
    temperature: float = 0.8
    top_p: float = 0.95
    rho: float = 0.0
    max_chosen_chars: int = 2500
    judge_pairs: bool = True
    max_judgment_chars: int = 1100
    rubric: str = "additive"

    def __post_init__(self) -> None:
        if not 0 <= self.rho <= 1:
            raise ConfigError(f"rho is {self.rho}; expected 0 to 1")


@dataclass
class _Duel:
    """The judgments of one answer, and the meta-judge's wins among them (places in `answer.judgments`)."""

    prompt_id: str
    answer: Rated
    battles: list[Battle] = field(default_factory=list)


def judges(options: Options) -> tuple[str, ...]:
    """The policy judges its answers, and its judgments."""
    return ("policy",)


def run(job: Job, options: Options) -> Iterator[Made]:
    """Actor pairs as they come, judge pairs at the end."""
    drawing = Drawing("answer", options.candidates, "policy", options.temperature, options.top_p)
    rating = Rating("policy", options.judgments, options.rubric, options.temperature, options.top_p)
    duels: list[_Duel] = []
    for batch in job.batches():
        for found in rate(job, batch, draw(job, batch, drawing), rating):
            yield from found.dropped
            yield _actor_pair(found, options)
            unsure = [one for one in found.rated if len(one.judgments) > 1 and one.variance > 0]
            if unsure:
                duels.append(_Duel(found.prompt.id, max(unsure, key=lambda one: one.variance)))
    if options.judge_pairs:
        yield from _judge_pairs(job, duels, options)


def _actor_pair(found: RatedAnswers, options: Options) -> Made:
    prompt, rated = found.prompt, found.rated
    if len(rated) < 2:
        return Dropped(prompt.id, prompt.id, "fewer than two scored answers")
    low, high = min(one.mean for one in rated), max(one.mean for one in rated)
    if low == high:
        return Dropped(prompt.id, prompt.id, "all scores are equal")
    margin = options.rho * (high - low)
    chosen = min((one for one in rated if one.mean >= high - margin), key=lambda one: len(one.text.text))
    rejected = max((one for one in rated if one.mean <= low + margin), key=lambda one: len(one.text.text))
    if chosen.mean <= rejected.mean:
        return Dropped(prompt.id, prompt.id, "the tiers overlap")
    if len(chosen.text.text) > options.max_chosen_chars:
        return Dropped(prompt.id, prompt.id, "the chosen answer is too long")
    facts = {
        "role": "actor",
        "chosen_id": chosen.text.key,
        "rejected_id": rejected.text.key,
        "score_chosen": chosen.mean,
        "score_rejected": rejected.mean,
    }
    return Pair(
        f"{prompt.id}/actor", prompt.id, prompt.messages, chosen.text.text, rejected.text.text, ACTOR, facts
    )


def _judge_pairs(job: Job, duels: Sequence[_Duel], options: Options) -> Iterator[Made]:
    yield from _fight(job, duels)
    weights = place_weights([battle for duel in duels for battle in duel.battles])
    for duel in duels:
        name = f"{duel.prompt_id}/judge"
        if not duel.battles:
            yield Dropped(name, duel.prompt_id, "no comparison of its judgments could be read")
            continue
        elo = ratings(len(duel.answer.judgments), duel.battles, weights)
        best, worst = elo.index(max(elo)), elo.index(min(elo))
        chosen, rejected = duel.answer.judgments[best], duel.answer.judgments[worst]
        if elo[best] == elo[worst] or chosen.text == rejected.text:
            yield Dropped(name, duel.prompt_id, "all judgments are as good")
        elif len(chosen.text) > options.max_judgment_chars:
            yield Dropped(name, duel.prompt_id, "the chosen judgment is too long")
        else:
            facts = {"role": "judge", "elo_chosen": elo[best], "elo_rejected": elo[worst]}
            asked = (Message("user", duel.answer.question),)
            yield Pair(name, duel.prompt_id, asked, chosen.text, rejected.text, JUDGE, facts)


def _fight(job: Job, duels: Sequence[_Duel]) -> Iterator[Dropped]:
    """Every two judgments of an answer in both orders; the winners go into the duels."""
    asks, places = [], []
    for duel in duels:
        texts = [judgment.text for judgment in duel.answer.judgments]
        for first in range(len(texts)):
            for second in range(len(texts)):
                if first == second:
                    continue
                shown = job.texts.render(
                    "compare",
                    rating=duel.answer.question,
                    judgment_a=texts[first],
                    judgment_b=texts[second],
                )
                name = f"{duel.answer.text.key}/meta-{first}-{second}"
                asks.append(Ask(name, (Message("user", shown),), "policy", 0.0))
                places.append((duel, first, second))
    for ask, (duel, first, second), verdict in zip(
        asks, places, ask_judge(job, asks, PREFERENCE), strict=True
    ):
        if verdict.value in ("A", "B"):
            duel.battles.append(Battle(first, second, verdict.value == "A"))
        else:
            yield Dropped(ask.key, duel.prompt_id, verdict.problem or "judge: a tie")
