"""Iterative DPO: pairs from the policy's own answers, round by round.

`source: verifier` is Iterative RPO for reasoning (arXiv:2404.19733, section 2): `samples` answers to
each question (30; temperature 0.8), right ones and wrong ones told apart by their final answer, and up
to `pairs` pairs (10) of a right and a wrong one. An answer that was cut off has no end to be right by and
counts as wrong: it may be rejected, and is never chosen. Questions with right answers alone, or wrong ones
alone, make no pair. The loss is DPO's plus the chosen answer's NLL with weight 1 (eq. 1): without it
the likelihood of chosen answers falls. From the third round on the paper draws at 1.3, so that there are
wrong answers left: `round_options: [{}, {}, {temperature: 1.3}, ...]`.

`source: judge` and `source: reward` are for everything that has no right answer: the best-scored answer
against the worst (arXiv:2312.16682; arXiv:2401.10020), by a judge's 0 to 5 points or by a reward model.
Answers that were cut off are left out, and the loss is DPO's alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autoalign.algorithms._drawing import Drawing, Drawn, draw
from autoalign.algorithms._job import Job, Prompt
from autoalign.algorithms._made import Dropped, Made
from autoalign.algorithms._pairing import pair_up, scored
from autoalign.algorithms._rating import Rating, rate
from autoalign.algorithms._scoring import SOURCES, values
from autoalign.curation.candidates import Rules
from autoalign.errors import ConfigError

MAKES = "pairs"
RIGHT = "the verifier finds chosen right and rejected wrong"
BEST = "chosen has the highest score of the answers, rejected the lowest"


@dataclass(frozen=True)
class Options:
    """What may be set; `source`: what scores answers."""

    source: str = "verifier"
    samples: int = 30
    pairs: int = 10
    temperature: float = 0.8
    judge: str = "judge"
    rubric: str = "additive"

    def __post_init__(self) -> None:
        if self.source not in (*SOURCES, "judge"):
            raise ConfigError(f"source is '{self.source}'; expected {', '.join(SOURCES)} or judge")


def training(options: Options) -> Mapping[str, Any]:
    """DPO, with the NLL term where a verifier is the source."""
    nll = {"rpo_alpha": 1.0, "nll_average": "rows"} if options.source == "verifier" else {}
    return {"loss_type": ["sigmoid"], "beta": 0.1, **nll}


def run(job: Job, options: Options) -> Iterator[Made]:
    """Up to `pairs` pairs a prompt (one, unless a verifier is the source)."""
    whole = options.source != "verifier"
    drawing = Drawing("answer", options.samples, temperature=options.temperature, whole=whole)
    for batch in job.batches():
        drawn = draw(job, batch, drawing)
        yield from (_judged if options.source == "judge" else _scored)(job, options, batch, drawn)


def _judged(job: Job, options: Options, batch: Sequence[Prompt], drawn: Sequence[Drawn]) -> Iterator[Made]:
    for prompt, rated, dropped in rate(job, batch, drawn, Rating(options.judge, 1, options.rubric)):
        yield from dropped
        yield from pair_up(prompt, [scored(one.text, one.mean) for one in rated], BEST)


def _scored(job: Job, options: Options, batch: Sequence[Prompt], drawn: Sequence[Drawn]) -> Iterator[Made]:
    for (prompt, answers), found in zip(
        zip(batch, drawn, strict=True), values(job, options.source, batch, drawn), strict=True
    ):
        yield from answers.dropped
        candidates = [
            # Cut off, it is wrong, even where the verifier finds the right answer in it.
            scored(text, 0.0 if text.key in answers.cut_off else value)
            for text, value in zip(answers.texts, found, strict=True)
            if value is not None
        ]
        if answers.texts and not candidates:
            yield Dropped(prompt.id, prompt.id, f"{options.source}: its answers can't be scored")
        elif options.source == "verifier":
            rules = Rules(threshold=0.5, max_pairs=options.pairs)
            yield from pair_up(prompt, candidates, RIGHT, "threshold", rules)
        else:
            yield from pair_up(prompt, candidates, BEST)
