"""The loop over a fake engine and a fake trainer: what is skipped, kept, promoted, and told."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from autoalign.algorithms import Ask, Reply
from autoalign.alignment import lineage, planning, status
from autoalign.alignment.loop import PROMOTED
from autoalign.alignment.prompts import read
from autoalign.alignment.report import AlignReport, write_files
from autoalign.alignment.stages import Stage, StageStore
from autoalign.config.align import AlignConfig
from autoalign.errors import ConfigError, JobFailed
from tests.alignment_fakes import (
    FakeSampler,
    FakeTrainer,
    Fault,
    Killed,
    job,
    outputs,
    skill,
    verdicts,
    write_model,
)

KILL_POINTS = sorted(random.Random(7).sample(range(1, 26), 20))


def store_of(loop) -> StageStore:
    return StageStore(loop.ledger.folder / "stages")


# Stages.


def test_a_stage_runs_once_and_again_when_its_inputs_change(tmp_path: Path) -> None:
    ran = []

    def work(folder: Path) -> dict[str, int]:
        ran.append(folder.name)
        (folder / "out.txt").write_text("x")
        return {"rows": 1}

    store = StageStore(tmp_path)
    first, again = (store.run(Stage("data", {"seed": 1}, work)) for _ in range(2))
    other = store.run(Stage("data", {"seed": 2}, work))
    assert len(ran) == 2 and first.name == again.name != other.name
    assert (first.ran, again.ran, again.figures) == (True, False, {"rows": 1})


def test_a_stage_that_is_cut_off_leaves_no_finished_folder(tmp_path: Path) -> None:
    def work(folder: Path) -> dict[str, int]:
        kept = folder / "kept.txt"
        if kept.exists():
            return {"resumed": 1}
        kept.write_text("x")
        raise Killed

    store, stage = StageStore(tmp_path), Stage("train", {}, work)
    with pytest.raises(Killed):
        store.run(stage)
    assert store.find(stage.name) is None and store.all() == []
    assert store.run(stage).figures == {"resumed": 1}


# Killed and run again.


@pytest.mark.parametrize("point", KILL_POINTS)
def test_a_killed_job_goes_on_and_ends_with_the_same_files(tmp_path: Path, point: int) -> None:
    whole = job(tmp_path / "whole")
    whole.run()
    fault = Fault(point)
    with pytest.raises(Killed):
        job(tmp_path / "cut", fault).run()
    finished = {done.name for done in StageStore(tmp_path / "cut" / "out" / "stages").all()}
    again = job(tmp_path / "cut")
    again.run()
    assert finished <= {done.name for done in store_of(again).all()}

    assert told(tmp_path / "cut") == told(tmp_path / "whole")


def told(folder: Path) -> dict[str, bytes]:
    """A job's files, without the name of its folder in them."""
    return {k: v.replace(str(folder).encode(), b"") for k, v in outputs(folder / "out").items()}


@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_a_job_killed_at_a_judge_goes_on_and_ends_with_the_same_files(tmp_path: Path, call: int) -> None:
    """Two rounds, in each of which the judge and then the held-out judge are asked."""
    asked: list[str] = []

    class Cut(FakeSampler):
        def __call__(self, models: Mapping[str, str], asks: Sequence[Ask], store: Path) -> list[Reply]:
            asked.extend({ask.model for ask in asks} - {"policy"})
            if len(asked) == call and asks[0].model != "policy":
                raise Killed
            return super().__call__(models, asks, store)

    other = str(write_model(tmp_path / "other", 0.3))
    judged = {"metric": "judge", "models": {"held_out_judge": other}, "on_worse": "continue"}
    with pytest.raises(Killed):
        job(tmp_path / "cut", sampler=Cut, **judged).run()
    assert asked == ["judge", "held_out_judge", "judge", "held_out_judge"][:call]
    for name in ("cut", "whole"):
        job(tmp_path / name, **judged).run()
    assert told(tmp_path / "cut") == told(tmp_path / "whole")


def test_a_job_has_more_calls_than_kill_points(tmp_path: Path) -> None:
    fault = Fault()
    job(tmp_path, fault).run()
    assert fault.calls >= max(KILL_POINTS)


def test_a_finished_job_runs_nothing_again(tmp_path: Path) -> None:
    job(tmp_path).run()
    again = job(tmp_path)
    again.run()
    assert again._machinery.sample.asked == [] and again._machinery.train.runs == []


def test_a_changed_option_runs_what_depends_on_it_alone(tmp_path: Path) -> None:
    """Other pairs, another training; the model comes out the same, so nothing after it runs."""
    job(tmp_path, rounds=1).run()
    other = job(tmp_path, rounds=1, options={"samples": 6})
    other.run()
    kinds = [done.record["kind"] for done in store_of(other).all()]
    assert sorted(kinds) == ["answers", "answers", "data", "data", "evaluation", "train", "train"]


def test_a_file_that_an_option_names_is_part_of_what_depends_on_it(tmp_path: Path) -> None:
    rubric = tmp_path / "rubric.txt"
    names = []
    for text in ("Be kind.", "Be brief.", "Be kind."):
        rubric.write_text(text)
        names.append(job(tmp_path, engine={"template": str(rubric)}).data_stage(1).name)
    assert names[0] == names[2] != names[1]


def test_the_held_out_judge_changes_no_data(tmp_path: Path) -> None:
    other = write_model(tmp_path / "other", 0.9)
    judged = {"models": {"held_out_judge": str(other)}}
    assert job(tmp_path).data_stage(1).name == job(tmp_path, **judged).data_stage(1).name


def test_so_many_workers_train_on_so_many_times_as_large_a_batch(tmp_path: Path) -> None:
    loops = [job(tmp_path, training={"launcher": "ray", "num_workers": n}) for n in (1, 1, 8)]
    data = StageStore(tmp_path / "stages").run(
        Stage("data", {}, lambda folder: {"rows": (folder / "data.jsonl").write_text("{}")})
    )
    one, again, eight = (loop.train_stage(1, data, str(tmp_path / "first")).name for loop in loops)
    assert one == again != eight


def test_a_template_is_sampled_and_trained_with(tmp_path: Path) -> None:
    config = job(tmp_path, template="chatml")._config
    assert config.train_config(1, "m", ["d.jsonl"], "o").conv_template_name == "chatml"
    assert config.engine_config("m").template == "chatml"


# Promotion.


def test_a_better_round_is_promoted_and_the_next_starts_from_it(tmp_path: Path) -> None:
    loop = job(tmp_path, promote_when="better")
    ledger = loop.run()
    assert verdicts(ledger)[0] is True
    assert skill(str(tmp_path / "out" / PROMOTED)) == skill(ledger.policy) > 0.3


class Spoiled(FakeTrainer):
    """Trains on pairs the wrong way round."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault, step=-0.3)


@pytest.mark.parametrize(("side_by_side", "releases"), [(False, 3), (True, 1)])
def test_engines_end_before_a_training_or_with_the_job(
    tmp_path: Path, side_by_side: bool, releases: int
) -> None:
    """Two rounds' trainings, and the end."""
    seen: list[str] = []

    class Sampler(FakeSampler):
        def release(self) -> None:
            seen.append("released")

    job(tmp_path, sampler=Sampler, side_by_side=side_by_side, promote_when="always").run()
    assert len(seen) == releases


@pytest.mark.parametrize(("on_worse", "rounds"), [("stop", 1), ("continue", 2)])
def test_a_round_made_worse_is_kept_aside(tmp_path: Path, on_worse: str, rounds: int) -> None:
    loop = job(tmp_path, trainer=Spoiled, on_worse=on_worse)
    ledger = loop.run()
    assert verdicts(ledger) == [False] * rounds
    assert ledger.policy == str(tmp_path / "first")
    assert not (tmp_path / "out" / PROMOTED).exists()
    assert "the interval does not lie above 0" in ledger.rounds[0].reason
    assert (loop.ledger.folder / "stages" / ledger.rounds[0].stages["train"]).is_dir()


def test_what_an_earlier_config_promoted_is_no_longer_called_promoted(tmp_path: Path) -> None:
    job(tmp_path, promote_when="better").run()
    assert (tmp_path / "out" / PROMOTED).exists()
    job(tmp_path, trainer=Spoiled, training={"learning_rate": 1e-3}, on_worse="stop").run()
    assert not (tmp_path / "out" / PROMOTED).is_symlink()


def test_a_judge_without_a_single_verdict_ends_the_job(tmp_path: Path) -> None:
    class Mute(FakeSampler):
        def _reply(self, skilled: float, ask: Ask) -> Reply:
            return Reply("Hm.") if ask.model == "judge" else super()._reply(skilled, ask)

    with pytest.raises(JobFailed, match=r"not one of \d+ comparisons by 'judge' could be read"):
        job(tmp_path, metric="judge", rounds=1, sampler=Mute).run()


@pytest.mark.parametrize(("failing", "ends"), [(2, False), (3, True)])
def test_answers_that_an_engine_fails_to_give_are_not_taken_for_wrong_ones(
    tmp_path: Path, failing: int, ends: bool
) -> None:
    """Of 20 held-out prompts two may fail: they may be too long."""

    class Failing(FakeSampler):
        def __call__(self, models: Mapping[str, str], asks: Sequence[Ask], store: Path) -> list[Reply]:
            replies = super().__call__(models, asks, store)
            is_held_out = asks[0].key.startswith("held_out/")
            return [Reply("", "error")] * failing + replies[failing:] if is_held_out else replies

    loop = job(tmp_path, rounds=1, sampler=Failing)
    if ends:
        with pytest.raises(JobFailed, match="3 of 20 held-out prompts got no answer"):
            loop.run()
    else:
        assert len(loop.run().rounds) == 1


def test_a_judge_decides_by_wins_in_both_orders(tmp_path: Path) -> None:
    ledger = job(tmp_path, metric="judge", promote_when="better", rounds=1).run()
    figures = store_of_first(ledger)["evaluation"]
    assert verdicts(ledger) == [True]
    assert figures["win_rate"]["value"] > 0.5 and figures["judge_first"] == 0.5
    assert figures["judge_agreeing"] == 1.0


def store_of_first(ledger) -> dict:
    report = AlignReport.of(ledger, StageStore(ledger.folder / "stages"))
    return report.rounds[0].to_dict()


def test_the_held_out_judge_shows_reward_hacking(tmp_path: Path) -> None:
    other = {"held_out_judge": str(tmp_path / "first")}
    ledger = job(tmp_path, metric="judge", rounds=1, models=other).run()
    figures = store_of_first(ledger)["evaluation"]
    assert figures["reward_hacking"] == 0.0
    assert (figures["held_out_judge_first"], figures["held_out_judge_unread"]) == (0.5, 0)


# What is told.


def test_the_report_has_a_row_a_round_and_a_picture(tmp_path: Path) -> None:
    ledger = job(tmp_path, promote_when="better").run()
    report = write_files(AlignReport.of(ledger, StageStore(ledger.folder / "stages")))
    table = report.summary().splitlines()
    assert table[0].split()[:6] == ["round", "rows", "dropped", "loss", "score", "compared"]
    assert table[1].split()[0] == "1" and table[1].endswith("promoted")
    assert table[1].split()[5] == "20/20"
    shown = report.rounds[0].evaluation
    assert f"guards, round 1: length drift {shown['length_drift']:.2f}, diversity" in report.summary()
    assert (ledger.folder / "align.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((ledger.folder / "report.json").read_text())["rounds"][0]["verdict"] == "promoted"


def test_status_shows_every_stage(tmp_path: Path) -> None:
    loop = job(tmp_path, rounds=1, promote_when="better")
    with pytest.raises(Killed):
        job(tmp_path, Fault(2), rounds=1, promote_when="better").run()
    from autoalign.alignment.ledger import read as read_ledger

    half = "\n".join(status.lines(read_ledger(tmp_path / "out"), store_of(loop)))
    assert "started, not finished" in half and "the job is not finished" in half
    loop.run()
    whole = "\n".join(status.lines(loop.ledger, store_of(loop)))
    for what in ("data", "train", "answers of the first model", "evaluation", "gain +", "guards: length"):
        assert what in whole
    assert "of 20/20 prompts" in whole and "forgetting: not measured (benchmark_path)" in whole


def test_lineage_leads_from_a_row_to_its_seed_prompt(tmp_path: Path) -> None:
    loop = job(tmp_path, promote_when="better")
    ledger = loop.run()
    data = store_of(loop).find(ledger.rounds[0].stages["data"])
    assert data is not None
    row = json.loads((data.folder / "data.jsonl").read_text().splitlines()[0])
    told = "\n".join(lineage.of_row(ledger, store_of(loop), row["id"]))
    prompt_id = row["alignment"]["prompt_id"]
    assert f"seed prompt {prompt_id}: Question {prompt_id[1:]}?" in told
    assert "the verifier finds chosen right" in told and row["alignment"]["chosen_id"] in told
    with pytest.raises(ConfigError, match="did you mean"):
        list(lineage.of_row(ledger, store_of(loop), row["id"] + "x"))


def test_lineage_tells_the_seed_prompt_of_a_row_that_asks_in_another_way(tmp_path: Path) -> None:
    """`self_improve`'s direct format adds "Give the final answer alone." to the question."""
    loop = job(tmp_path, algorithm="self_improve", rounds=1)
    told = list(lineage.of_row(loop.run(), store_of(loop), "round-1/q3/direct"))
    assert told[-1] == "  seed prompt q3: Question 3?"


def test_lineage_of_a_model_names_the_stages_behind_it(tmp_path: Path) -> None:
    loop = job(tmp_path, promote_when="better", rounds=1)
    ledger = loop.run()
    told = "\n".join(lineage.of_model(ledger, store_of(loop)))
    assert ledger.rounds[0].stages["data"] in told and told.endswith(f"first model: {tmp_path / 'first'}")


def test_the_plan_counts_texts_without_a_model(tmp_path: Path) -> None:
    """40 prompts with 4 samples in each of two rounds, 20 held-out answers of 2 models, then of 1 more."""
    loop = job(tmp_path)
    plan = "\n".join(planning.lines(loop._config, read(loop._config), loop))
    assert "round 1: texts at most: 160 of policy; evaluation 40" in plan
    assert "round 2: texts at most: 160 of policy; evaluation 20" in plan
    assert "in all: 380 texts" in plan


def test_pairs_bring_both_their_answers_and_solutions_their_result(tmp_path: Path) -> None:
    pairs, solutions = tmp_path / "pairs.jsonl", tmp_path / "solutions.jsonl"
    pairs.write_text(json.dumps({"prompt": "Why?", "chosen": "So.", "rejected": "No."}) + "\n")
    solutions.write_text(json.dumps({"question": "2 + 2?", "answer": "2 + 2 = 4\n#### 4"}) + "\n")
    held_out = tmp_path / "held_out.jsonl"
    held_out.write_text(json.dumps({"question": "Who?"}) + "\n")
    values = {"model_name_or_path": "m", "output_dir": "o", "algorithm": "wpo", "metric": "judge"}
    paths = {"prompt_path": [str(pairs), str(solutions)], "held_out_path": str(held_out)}
    pair, solution = read(AlignConfig.build({**values, **paths})).training
    assert (pair.question, pair.answer, pair.rejected) == ("Why?", "So.", "No.")
    assert (solution.answer, solution.reference) == ("2 + 2 = 4\n#### 4", "4")


def test_earlier_rounds_data_are_carried_on(tmp_path: Path) -> None:
    loop = job(tmp_path, carry_rounds=1, promote_when="always")
    ledger = loop.run()
    second = store_of(loop).find(ledger.rounds[1].stages["train"])
    assert second is not None
    assert second.record["after"][:2] == [entry.stages["data"] for entry in ledger.rounds]
    assert len(second.record["inputs"]["data"]) == 2


def test_a_round_without_a_row_fails_and_says_why(tmp_path: Path) -> None:
    loop = job(tmp_path, options={"samples": 1})
    with pytest.raises(JobFailed, match=r"kept no row: fewer than two scored answers \(40\)"):
        loop.run()


class Nonsense(FakeSampler):
    """A judge that refuses one question of five, fails on another, and says nothing of use on a third."""

    def _reply(self, skilled: float, ask: Ask) -> Reply:
        number = int(ask.key.split("q")[1].split("/")[0])
        bad = {
            0: Reply("I'm sorry, but I can't compare these. [[A]]"),
            1: Reply("", "error"),
            2: Reply("Both!"),
        }
        if ask.model == "judge" and number % 5 in bad:
            return bad[number % 5]
        return super()._reply(skilled, ask)


def test_a_judge_that_talks_nonsense_drops_rows_by_rule_and_decides_nothing(tmp_path: Path) -> None:
    loop = job(tmp_path, algorithm="online_dpo", options={}, metric="judge", rounds=1, sampler=Nonsense)
    ledger = loop.run()
    report = store_of_first(ledger)
    dropped = report["data"]["dropped"]
    assert {rule for rule in dropped if rule.startswith("judge: ")} == {
        "judge: it refused", "judge: the engine failed", "judge: no verdict could be read",
    }  # fmt: skip
    # 40 prompts, three of five with such a judge.
    assert report["data"]["judge_problems"] == 24
    # Both orders, three tries.
    asked = [key for key in loop._machinery.sample.asked if key.startswith("round-1/") and "/online/" in key]
    assert len([key for key in asked if key.endswith("#3")]) == 24 * 2
    assert report["evaluation"]["judge_unread"] > 0


def test_a_generator_is_trained_beside_the_policy(tmp_path: Path) -> None:
    """SSO: the first round's model takes a role, the second round's is the policy's rival."""
    config = {
        "algorithm": "sso",
        "options": {},
        "round_options": [{"stage": "generator"}, {"stage": "policy"}],
    }
    loop = job(tmp_path, **config)
    sampler = loop._machinery.sample
    plain = sampler._reply
    sampler._reply = lambda skilled, ask: (
        type(plain(skilled, ask))("Good principle: right\nBad principle: wrong")
        if ask.key.endswith("principles")
        else plain(skilled, ask)
    )
    ledger = loop.run()
    assert [entry.trains for entry in ledger.rounds] == ["generator", "policy"]
    assert ledger.rounds[0].promoted is None and ledger.rounds[1].promoted is not None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"models": {"jugde": "x"}}, "no role 'jugde'"),
        ({"training": {"output_dir": "x"}}, "output_dir is the job's own"),
        ({"training": {"learning_rat": 1}}, "did you mean 'learning_rate'"),
        ({"options": {"sample": 3}}, "did you mean 'samples'"),
        ({"verifier": None}, "needs a 'verifier'"),
        ({"algorithm": "grpo", "options": {}, "training": {"loss_type": "x"}}, "'loss_type'"),
        ({"engine": {"dtyp": "x"}}, "did you mean 'dtype'"),
    ],
)
def test_a_wrong_config_says_what_is_wrong(tmp_path: Path, settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        job(tmp_path, **settings)


def test_held_out_and_benchmark_prompts_are_not_learned_from(tmp_path: Path) -> None:
    rows = [{"id": str(n), "question": f"Question {n % 5}?"} for n in range(10)]
    path = tmp_path / "q.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    values = {"model_name_or_path": "m", "output_dir": "o", "algorithm": "rlcd", "prompt_path": str(path)}
    config = AlignConfig.build({**values, "metric": "judge", "held_out": 2})
    sets = read(config)
    assert {prompt.question for prompt in sets.held_out} == {"Question 3?", "Question 4?"}
    assert {prompt.question for prompt in sets.training} == {"Question 0?", "Question 1?", "Question 2?"}
    benchmark = tmp_path / "benchmark.jsonl"
    benchmark.write_text(json.dumps({"question": "Question 1?"}) + "\n")
    kept = read(
        AlignConfig.build({**values, "metric": "judge", "held_out": 2, "benchmark_path": str(benchmark)})
    )
    assert {prompt.question for prompt in kept.training} == {"Question 0?", "Question 2?"}
    assert [prompt.id for prompt in sets.of_round(2, 4)] == ["5", "6", "7", "0"] or len(
        sets.of_round(2, 4)
    ) == 4
