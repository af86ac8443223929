"""Self-Steering Optimization (arXiv:2410.17131v2, section 4): a generator of pairs is trained first.

`stage: generator`. For each prompt x a principle generator (role `strong`) writes a good and a bad
principle; as system messages they make x+ and x-. The policy answers all three: y+, y- and, without any
principle, y_o. The loss is L+ + L- with L(x, y_w, y_l) = L_base + gamma L_sft (eq. 1, 2 and 4):
- x+: y+ chosen, y- rejected;
- x-: y_o chosen, y+ rejected, not y-, so that what the generator says under a bad principle stays
  likely.

gamma = 0.1, and L_base is DPO (beta 0.1) times the weight of the authors' first trainer (icip-cas/SSO):
    W = sigmoid(-(alpha log p(y_w) / |y_w| + (1 - alpha) log p(y_l) / |y_l|)),  alpha = 0.66
That is `loss_type: [sso, sft]` with weights 1 and 0.1. They take one W, of y+ and y- on x alone, for both
pairs; here each pair has its own (`autoalign/losses/preference/sso.py`). The paper's second version and the
authors' later trainer (icip-cas/AutoAlign) have no W: `training: {loss_type: [sigmoid, sft]}`. What comes
out is no better policy and is not promoted; it takes the role `generator`.

`stage: policy`. The generator answers x+ and x-, and the policy learns y+ over y- on x alone, by DPO plus
gamma L_sft; their first trainer does not weigh this pair either. Sampling after section 5.1:
temperature 0.7, top_p 0.8.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from autoalign.algorithms._job import Job, Prompt
from autoalign.algorithms._judge import ask_judge
from autoalign.algorithms._made import Dropped, Made, Pair
from autoalign.errors import ConfigError
from autoalign.judging.forms import Form
from autoalign.records import Message
from autoalign.synthesis import Ask, Reply

MAKES = "pairs"
_LINES = re.compile(
    r"^\W*good principle\W*:\s*(?P<good>\S.*?)\s*^\W*bad principle\W*:\s*(?P<bad>\S.*?)\s*\Z",
    re.IGNORECASE | re.MULTILINE | re.DOTALL,
)


class Principles(NamedTuple):
    """What leads to a good answer, and what to a bad one."""

    good: str
    bad: str


@dataclass(frozen=True)
class Options:
    """What may be set.

    Args:
        stage: "generator" or "policy".
        principles_by: the role that writes the principles.
    """

    stage: str = "generator"
    principles_by: str = "strong"
    temperature: float = 0.7
    top_p: float = 0.8

    def __post_init__(self) -> None:
        if self.stage not in ("generator", "policy"):
            raise ConfigError(f"stage is '{self.stage}'; expected generator or policy")


def trains(options: Options) -> str:
    """The generator's stage trains no policy."""
    return options.stage


def training(options: Options) -> Mapping[str, Any]:
    """DPO, weighted for the generator, plus 0.1 of the chosen answers' NLL."""
    base = "sso" if options.stage == "generator" else "sigmoid"
    return {"loss_type": [base, "sft"], "loss_weights": [1.0, 0.1], "beta": 0.1, "nll_average": "rows"}


def judges(options: Options) -> tuple[str, ...]:
    """Who writes principles is asked as judges are."""
    return (options.principles_by,)


def run(job: Job, options: Options) -> Iterator[Made]:
    """Two pairs a prompt for the generator, one for the policy."""
    for batch in job.batches():
        asks = [
            Ask(
                f"{prompt.id}/principles",
                (Message("user", job.texts.render("principles", question=prompt.question)),),
                options.principles_by,
                0.0,
            )
            for prompt in batch
        ]
        steered = []
        for prompt, verdict in zip(batch, ask_judge(job, asks, PRINCIPLES), strict=True):
            if verdict.value is None:
                yield Dropped(prompt.id, prompt.id, verdict.problem.replace("judge", "principles"))
            else:
                steered.append((prompt, verdict.value))
        yield from (_for_generator if options.stage == "generator" else _for_policy)(job, options, steered)


def read_principles(text: str) -> Principles | None:
    """The lines `Good principle: ...` and `Bad principle: ...`, where both are there."""
    found = _LINES.search(text)
    return None if found is None else Principles(found["good"], found["bad"])


def _take(found: Mapping[str, Any]) -> Principles | None:
    both = found["good_principle"], found["bad_principle"]
    return Principles(*both) if all(isinstance(each, str) and each.strip() for each in both) else None


PRINCIPLES: Form[Principles] = Form("principles", read_principles, _take)


def _for_generator(
    job: Job, options: Options, steered: Sequence[tuple[Prompt, Principles]]
) -> Iterator[Made]:
    plus = _answers(job, options, steered, "good", "policy")
    minus = _answers(job, options, steered, "bad", "policy")
    plain = _answers(job, options, steered, "", "policy")
    for (prompt, principles), good, bad, own in zip(steered, plus, minus, plain, strict=True):
        problem = good.problem or bad.problem or own.problem
        if problem is not None:
            yield Dropped(prompt.id, prompt.id, f"answer: {problem}")
            continue
        facts = {"good_principle": principles.good, "bad_principle": principles.bad}
        for side, chosen, rejected in (("good", good.text, bad.text), ("bad", own.text, good.text)):
            name, shown = f"{prompt.id}/{side}", _shown(job, prompt, principles, side)
            if chosen == rejected:
                yield Dropped(name, prompt.id, "both answers are the same")
                continue
            reason = (
                "y+ over y- under the good principle" if side == "good" else "y_o over y+ under the bad one"
            )
            yield Pair(name, prompt.id, shown, chosen, rejected, reason, facts)


def _for_policy(job: Job, options: Options, steered: Sequence[tuple[Prompt, Principles]]) -> Iterator[Made]:
    plus = _answers(job, options, steered, "good", "generator")
    minus = _answers(job, options, steered, "bad", "generator")
    for (prompt, principles), good, bad in zip(steered, plus, minus, strict=True):
        problem = good.problem or bad.problem
        if problem is not None or good.text == bad.text:
            rule = f"answer: {problem}" if problem else "both answers are the same"
            yield Dropped(prompt.id, prompt.id, rule)
            continue
        facts = {"good_principle": principles.good, "bad_principle": principles.bad}
        reason = "the generator wrote chosen under the good principle, rejected under the bad one"
        yield Pair(prompt.id, prompt.id, prompt.messages, good.text, bad.text, reason, facts)


def _answers(
    job: Job, options: Options, steered: Sequence[tuple[Prompt, Principles]], side: str, model: str
) -> Sequence[Reply]:
    return job.generate(
        [
            Ask(
                f"{prompt.id}/{side or 'plain'}",
                _shown(job, prompt, principles, side),
                model,
                options.temperature,
                options.top_p,
            )
            for prompt, principles in steered
        ]
    )


def _shown(job: Job, prompt: Prompt, principles: Principles, side: str) -> tuple[Message, ...]:
    if not side:
        return prompt.messages
    principle = principles.good if side == "good" else principles.bad
    return prompt.under(job.texts.render("system", principle=principle, side=side))
