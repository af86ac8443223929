"""`align --plan`: what is done, what is to run, its cost; and what is missing, before a model is asked."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from autoalign import algorithms
from autoalign.alignment import dry_run, planning
from autoalign.alignment.dry_run import require_inputs
from autoalign.alignment.loop import Loop
from autoalign.alignment.prompts import read
from autoalign.alignment.run import prepare
from autoalign.config.align import AlignConfig
from autoalign.errors import ConfigError
from tests.alignment_fakes import FakeTrainer, Fault, Killed, job, outputs

SSO: dict[str, Any] = {
    "algorithm": "sso",
    "options": {},
    "round_options": [{"stage": "generator"}, {"stage": "policy"}],
}


class Worse(FakeTrainer):
    """Takes from the skill."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault, step=-0.3)


def plan(loop: Loop) -> list[str]:
    return list(planning.lines(loop._config, read(loop._config), loop))


def line(loop: Loop, start: str) -> str:
    (found,) = (each for each in plan(loop) if each.startswith(start))
    return found


def to_run(loop: Loop) -> list[list[str]]:
    """Of each round that is not done."""
    return [
        each.split(": ")[1].split(", ") for each in map(str.strip, plan(loop)) if each.startswith("to run")
    ]


# What is done is found, and is not counted.


def test_the_plan_names_what_is_to_run_as_far_as_it_is_known(tmp_path: Path) -> None:
    """Policy and first model are one; what follows from answers that are not there has no name yet."""
    loop = job(tmp_path)
    data, answers = loop.data_stage(1).name, loop.answers_stage(str(tmp_path / "first")).name
    assert to_run(loop) == [
        [data, answers, "train", "answers", "evaluation"],
        ["data", "answers", "train", "evaluation"],
    ]


def test_the_plan_follows_finished_rounds_to_the_first_missing_stage(tmp_path: Path) -> None:
    """160 answers and the new model's 20 held-out ones are left; the policy gave its own as the new model."""
    settings = {"promote_when": "always"}
    first = job(tmp_path, rounds=1, **settings).run()
    told = plan(job(tmp_path, **settings))
    stages = job(tmp_path, **settings).run()[2].stages
    done = ", ".join(dict.fromkeys(first[1].stages.values()))
    start = told.index(f"round 1: done: {first[1].reason}")
    assert told[start + 1 : start + 5] == [
        f"  done: {done}",
        "round 2: texts at most: 160 of policy; evaluation 20",
        f"  done: {stages['answers_policy']}, {stages['answers_first']}",
        f"  to run: {stages['data']}, train, answers, evaluation",
    ]
    assert "in all: 180 texts, at most 92,160 output tokens" in told  # 180 x 512


def test_nothing_is_left_of_a_finished_job(tmp_path: Path) -> None:
    job(tmp_path, promote_when="always").run()
    loop = job(tmp_path, promote_when="always")
    assert line(loop, "in all") == "in all: 0 texts, at most 0 output tokens"
    assert to_run(loop) == []


def test_the_plan_ends_where_the_loop_does(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"trainer": Worse, "on_worse": "stop"}
    job(tmp_path, **settings).run()
    told = plan(job(tmp_path, **settings))
    assert "the loop ends with round 1 (on_worse: stop)" in told
    assert not [each for each in told if each.startswith("round 2")]


def test_a_changed_option_asks_for_its_data_and_the_new_models_answers_again(tmp_path: Path) -> None:
    """40 prompts with 6 samples; the policy's answers stay."""
    job(tmp_path, rounds=1).run()
    other = job(tmp_path, rounds=1, options={"samples": 6})
    assert line(other, "round 1") == "round 1: texts at most: 240 of policy; evaluation 20"


def test_data_that_are_there_are_counted_as_they_are(tmp_path: Path) -> None:
    """Three epochs are the default."""
    with pytest.raises(Killed):
        job(tmp_path, Fault(4)).run()  # stage begins, samples, stage is done, next stage begins
    loop = job(tmp_path)
    rows = loop.found(loop.data_stage(1)).figures["rows"]
    assert line(loop, "round 1") == "round 1: texts at most: none; evaluation 40"
    assert plan(loop)[5].startswith(f"  dpo on {rows} rows: {3 * rows} rows seen")


def test_a_plan_writes_nothing_and_leaves_its_loop_as_it_was(tmp_path: Path) -> None:
    job(tmp_path, rounds=1, promote_when="always").run()
    before, loop = outputs(tmp_path), job(tmp_path, promote_when="always")
    told = plan(loop)
    assert outputs(tmp_path) == before and plan(loop) == told
    assert loop._policy == str(tmp_path / "first")


# Cost.


def test_the_first_round_that_trains_the_policy_asks_two_models(tmp_path: Path) -> None:
    """20 held-out prompts of two models, and the judge in both orders."""
    loop = job(tmp_path, metric="judge", **SSO)
    assert line(loop, "round 1").endswith("; evaluation 0")
    assert line(loop, "round 2").endswith("; evaluation 80")


def test_rows_that_are_carried_on_are_counted(tmp_path: Path) -> None:
    """40 pairs a round, three epochs."""
    loop = job(tmp_path, algorithm="spin", options={}, carry_rounds=1)
    first, second = (each for each in plan(loop) if each.startswith("  dpo"))
    assert first.startswith("  dpo on 40 rows at most: 120 rows seen")
    assert second.startswith("  dpo on 80 rows at most, 40 of them of earlier rounds: 240 rows seen")


def test_the_generators_rows_are_not_counted_for_the_policy(tmp_path: Path) -> None:
    """Two pairs a prompt, then one."""
    loop = job(tmp_path, carry_rounds=1, **SSO)
    told = [each for each in plan(loop) if each.startswith("  dpo")]
    assert ["of earlier rounds" in each for each in told] == [False, False]


# What is missing.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"algorithm": "rest", "options": {}}, "rest, round 1: .* set 'reward_model'"),
        ({"algorithm": "wpo", "options": {}}, "wpo, round 1: .* set 'reward_model'"),
        ({"metric": "judge", "verifier": None}, "iterative_dpo, round 1: .* set 'verifier'"),
        ({"algorithm": "cai", "options": {}}, "cai, round 1: .* set 'principles'"),
        ({"algorithm": "debate", "options": {}, "verifier": "regex"}, "set 'verifier' to numeric"),
        (
            {"round_options": [{"source": "verifier"}, {"source": "reward"}]},
            "iterative_dpo, round 2: .* set 'reward_model'",
        ),
        ({"algorithm": "online_dpo", "options": {"judge_prompt": "pairwize"}}, "pairwize"),
    ],
)
def test_what_an_algorithm_lacks_is_said_before_anything_is_asked(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    config = job(tmp_path, **settings)._config
    with pytest.raises(ConfigError, match=message):
        prepare(config.model_copy(update={"model_name_or_path": str(tmp_path / "no model is looked for")}))


@pytest.mark.parametrize(
    "settings",
    [
        {"algorithm": "rest", "options": {}, "reward_model": "r"},
        {"algorithm": "rest", "options": {"source": "verifier"}},
        {"algorithm": "wpo", "options": {"source": "judge"}},
        {"algorithm": "cai", "options": {}, "principles": ["Be kind."]},
        {"algorithm": "debate", "options": {}},
    ],
)
def test_what_has_all_that_it_needs_is_not_refused(tmp_path: Path, settings: dict[str, Any]) -> None:
    config = job(tmp_path, **settings)._config
    noted: list[str] = []
    require_inputs(config, read(config), noted.append)
    assert noted == []


def test_the_check_takes_eight_prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 40, with 4 samples each, in both rounds."""
    config = job(tmp_path)._config
    texts = []

    def counted(config: AlignConfig, *args: Any) -> dry_run.RoundPlan:
        found = dry_run_of(config, *args)
        texts.append(found.texts["policy"])
        return found

    dry_run_of = dry_run.plan_round
    monkeypatch.setattr(dry_run, "plan_round", counted)
    require_inputs(config, read(config), pytest.fail)
    assert texts == [32, 32]


def test_the_users_prompt_files_are_checked_too(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "revision.txt").write_text("Rewrite: {{ anwser }}")
    settings = {"algorithm": "cai", "options": {}, "principles": ["Be kind."]}
    config = job(tmp_path, prompts_dir=str(tmp_path / "mine"), **settings)._config
    with pytest.raises(ConfigError, match=r"cai, round 1: prompt revision\.txt: 'anwser' is undefined"):
        require_inputs(config, read(config), pytest.fail)


def test_a_users_algorithm_that_trips_over_made_up_replies_may_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = """
from dataclasses import dataclass
from autoalign.synthesis import Ask
MAKES = "examples"
@dataclass(frozen=True)
class Options:
    pass
def run(job, options):
    (reply,) = job.generate([Ask("a", job.prompts[0].messages)])
    yield int(reply.text)
"""
    (tmp_path / "counting.py").write_text(own)
    monkeypatch.setattr(algorithms, "__path__", [*algorithms.__path__, str(tmp_path)])
    noted: list[str] = []
    try:
        config = job(tmp_path, algorithm="counting", options={}, rounds=1)._config
        require_inputs(config, read(config), noted.append)
    finally:
        sys.modules.pop("autoalign.algorithms.counting", None)
    (told,) = noted
    assert told.startswith("counting, round 1: not checked before it runs") and "ValueError" in told
