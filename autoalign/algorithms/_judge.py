"""Judges asked until they can be read: nonsense, refusals and failures never become a score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Generic, NamedTuple, TypeVar

from autoalign.algorithms._job import Job, Prompt
from autoalign.judging.forms import PREFERENCE, Form, Guide, reason
from autoalign.judging.prompts import JudgePrompt
from autoalign.judging.refusals import refuses
from autoalign.judging.verdicts import agreed
from autoalign.records import Message
from autoalign.synthesis import Ask, Reply

T = TypeVar("T")
RETRY_TEMPERATURE = 0.7  # the likeliest tokens would be the same again
_OPENING = 80  # characters: a judge may quote a refusal later on


class Verdict(NamedTuple, Generic[T]):
    """What a judge said to what was `asked`: `value`, or None and the `problem` of the last try."""

    value: T | None
    text: str = ""
    problem: str = ""
    asked: str = ""


def ask_judge(job: Job, asks: Sequence[Ask], form: Form[T]) -> list[Verdict[T]]:
    """A verdict for each ask, in order; one that can't be had or read is asked for `job.tries` times.

    A text that failed, was cut off, or opens with a refusal is never read. With `job.judge_guided` the
    judge is asked for, and held to, JSON of the form's schema.
    """
    if job.judge_guided:
        asks = [_guided(ask, form.guide) for ask in asks]
    verdicts: list[Verdict[T]] = [Verdict(None)] * len(asks)
    open_ones = list(range(len(asks)))
    for attempt in range(job.tries):
        tries = [_try(asks[place], attempt) for place in open_ones]
        for place, reply in zip(open_ones, job.generate(tries) if tries else [], strict=True):
            verdicts[place] = _verdict(job, asks[place], reply, form)
        open_ones = [place for place in open_ones if verdicts[place].value is None]
    return verdicts


def compare(
    job: Job, matches: Sequence[tuple[str, Prompt, str, str]], model: str, prompt: str = "pairwise"
) -> list[Verdict[float]]:
    """Which of two answers a judge prefers, asked in both orders (arXiv:2306.05685).

    Args:
        matches: key, prompt, first and second answer.
        prompt: a judge prompt's name or file.

    Returns:
        1 where the first wins in both orders, 0 where the second does, 0.5 otherwise.
    """
    text = JudgePrompt(prompt)
    asks = [
        Ask(f"{key}/{order}", (Message("user", _question(text, asked, *answers)),), model, 0.0)
        for key, asked, first, second in matches
        for order, answers in (("ab", (first, second)), ("ba", (second, first)))
    ]
    return in_both_orders(job, asks)


def in_both_orders(job: Job, asks: Sequence[Ask]) -> list[Verdict[float]]:
    """Verdicts on comparisons, each asked twice, the second time with the answers swapped.

    Returns:
        One for two asks: 1, 0 or 0.5 as `compare`; None where either can't be had.
    """
    said = ask_judge(job, asks, PREFERENCE)
    found: list[Verdict[float]] = []
    for one, swapped in zip(said[::2], said[1::2], strict=True):
        if one.value is None or swapped.value is None:
            found.append(Verdict(None, problem=one.problem or swapped.problem))
        else:
            won = agreed(one.value, swapped.value)
            found.append(Verdict(won, f"{one.text}\n\n{swapped.text}"))
    return found


def _question(text: JudgePrompt, asked: Prompt, first: str, second: str) -> str:
    return text.fill(
        conversation=asked.shown(), answer_a=first, answer_b=second, reference=asked.judge_reference
    )


def _try(ask: Ask, attempt: int) -> Ask:
    if not attempt:
        return ask
    warm = ask.temperature or RETRY_TEMPERATURE
    return replace(ask, key=f"{ask.key}#{attempt + 1}", temperature=warm)


def _guided(ask: Ask, guide: Guide) -> Ask:
    *before, last = ask.messages
    question = replace(last, content=f"{last.content}\n\n{guide.ask}")
    return replace(ask, messages=(*before, question), json_schema=guide.schema)


def _verdict(job: Job, ask: Ask, reply: Reply, form: Form[T]) -> Verdict[T]:
    asked = ask.messages[-1].content
    if reply.problem is not None:
        return Verdict(None, reply.text, f"judge: {reply.problem}", asked)
    if refuses(reason(reply.text) if job.judge_guided else reply.text, _OPENING):
        return Verdict(None, reply.text, "judge: it refused", asked)
    value = form.read_guided(reply.text) if job.judge_guided else form.read(reply.text)
    return Verdict(value, reply.text, "" if value is not None else "judge: no verdict could be read", asked)
