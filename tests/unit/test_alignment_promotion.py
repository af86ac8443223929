"""When a round's model takes the policy's place, and what is no evidence for it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from autoalign.algorithms import Prompt
from autoalign.alignment import evaluation
from autoalign.alignment.evaluation import Judging
from autoalign.alignment.loop import evaluate
from autoalign.alignment.promotion import decide
from autoalign.alignment.report import AlignReport
from autoalign.alignment.stages import StageStore
from tests.alignment_fakes import FakeTrainer, Fault, job, verdicts


class Spoiled(FakeTrainer):
    """Trains on pairs the wrong way round."""

    def __init__(self, fault: Fault, step: float = -0.3) -> None:
        super().__init__(fault, step)


@pytest.mark.parametrize(
    ("figures", "holds", "why"),
    [
        ({"held_out": 21, "compared": 11}, True, "the interval reaches 0"),
        ({"held_out": 21, "compared": 10}, False, "only 10 of 21 held-out prompts could be compared"),
        ({"judge_asked": 10, "judge_unread": 5}, True, "the interval reaches 0"),
        ({"judge_asked": 10, "judge_unread": 6}, False, "6 of the judge's 10 comparisons could not be read"),
        ({"benchmark_checked": 0}, False, "no answer to the benchmark could be checked"),
        ({"benchmark_checked": 3}, True, "the interval reaches 0"),
    ],
)
def test_nothing_is_promoted_without_evidence(
    tmp_path: Path, figures: dict[str, int], holds: bool, why: str
) -> None:
    config = job(tmp_path, promote_when="not_worse", max_forgetting=0.1)._config
    decision = decide(config, {"gain": {"value": 0.0, "low": 0.0, "high": 0.0}, **figures})
    assert decision.promoted is holds and why in decision.reason


@pytest.mark.parametrize(
    ("gain", "p_value", "holds", "why"),
    [
        # One prompt that got right: the bootstrap has no width, and of one flip p is 1.
        ((0.5, 0.5, 0.5), 1.0, False, "the exact test finds p = 1.000"),
        ((0.25, 0.05, 0.45), 0.0625, False, "the exact test finds p = 0.062"),
        ((0.3, 0.1, 0.5), 0.0312, True, "the interval lies above 0, p = 0.031"),
        ((0.1, 0.0, 0.2), 0.01, False, "the interval does not lie above 0"),
    ],
)
def test_a_significant_gain_is_one_that_an_exact_test_sees_too(
    tmp_path: Path, gain: tuple[float, float, float], p_value: float, holds: bool, why: str
) -> None:
    config = job(tmp_path, promote_when="significant")._config
    shown = dict(zip(("value", "low", "high"), gain, strict=True))
    decision = decide(config, {"gain": shown, "p_value": p_value, "held_out": 20, "compared": 20})
    assert decision.promoted is holds and why in decision.reason


def test_a_round_may_have_its_own_rule_and_the_last_one_holds_on(tmp_path: Path) -> None:
    """A model that got worse begins the second round, whose own loss is not promoted."""

    def slowly(fault: Fault) -> FakeTrainer:
        return Spoiled(fault, step=-0.1)

    ledger = job(
        tmp_path, trainer=slowly, promote_when=["always", "better"], rounds=3, on_worse="continue"
    ).run()
    assert verdicts(ledger) == [True, False, False]


@pytest.mark.parametrize(("ups", "p_value"), [(1, 1.0), (5, 0.0625), (6, 0.0312)])
def test_the_exact_test_counts_the_prompts_that_flipped(ups: int, p_value: float) -> None:
    """All up: 2 / 2**5 and 2 / 2**6; ten that stay the same say nothing."""
    assert evaluation.p_value([0.0] * (ups + 10), [1.0] * ups + [0.0] * 10, 42) == p_value


def test_what_could_not_be_compared_is_no_gain(tmp_path: Path) -> None:
    """Of 20 held-out prompts the verifier can check nine, all of which got right."""
    loop = job(tmp_path, promote_when="better", rounds=1)

    def verify(prompt: Prompt, text: str) -> bool | None:
        return None if int(prompt.id[1:]) < 51 else text.startswith("right")

    machinery = replace(loop._machinery, verify=verify)
    figures = evaluate(
        loop._config,
        loop._sets,
        machinery,
        Judging(machinery, {}, tmp_path / "texts.jsonl", 1),
        {
            name: {"held_out": {prompt.id: said for prompt in loop._sets.held_out}, "benchmark": {}}
            for name, said in (("new", "right"), ("policy", "wrong"), ("first", "wrong"))
        },
    )
    # p of nine ups: 2 / 2**9.
    assert (figures["compared"], figures["held_out"], figures["p_value"]) == (9, 20, 0.0039)
    decision = decide(loop._config, figures)
    assert not decision.promoted and "only 9 of 20" in decision.reason


def test_forgetting_is_measured_against_the_first_model(tmp_path: Path) -> None:
    benchmark = tmp_path / "benchmark.jsonl"
    benchmark.write_text(
        "".join(json.dumps({"question": f"B {n}?", "answer": "1"}) + "\n" for n in range(30))
    )
    settings = {"benchmark_path": str(benchmark), "trainer": Spoiled, "rounds": 1}
    ledger = job(tmp_path, promote_when="always", **settings).run()
    figures = AlignReport.of(ledger, StageStore(ledger.folder / "stages")).rounds[0].evaluation
    assert figures["forgetting"]["high"] < 0
    assert verdicts(ledger) == [False] and "the benchmark fell by" in ledger.rounds[0].reason
    told = job(tmp_path, promote_when="always", max_forgetting=None, **settings).run()
    assert verdicts(told) == [True] and "forgetting: " in told.rounds[0].warnings[-1]


@pytest.mark.parametrize(
    ("high", "limit", "holds"), [(-0.01, {}, False), (0.0, {}, True), (-0.01, {"max_forgetting": 0.05}, True)]
)
def test_a_fall_of_the_benchmark_beyond_its_interval_keeps_a_better_round_aside(
    tmp_path: Path, high: float, limit: dict[str, float], holds: bool
) -> None:
    figures = {"gain": {"value": 0.2, "low": 0.1, "high": 0.3}, "benchmark_checked": 16}
    fell = {"value": -0.25, "low": -0.5, "high": high}
    config = job(tmp_path, promote_when="better", **limit)._config
    assert decide(config, {**figures, "forgetting": fell}).promoted is holds
