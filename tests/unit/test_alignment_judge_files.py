"""Judges' prompts: a changed file makes new what depends on it, and a held-out judge has its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from autoalign.algorithms import Ask, Reply
from autoalign.alignment import planning
from autoalign.alignment.prompts import read
from autoalign.judging import forms, refusals
from autoalign.judging import prompts as judge_prompts
from tests.alignment_fakes import FakeSampler, job


def prompts_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of our judges' prompt files that may be edited."""
    folder = tmp_path / "prompts"
    shutil.copytree(judge_prompts.FOLDER.parent, folder)
    monkeypatch.setattr(judge_prompts, "FOLDER", folder / "judge")
    monkeypatch.setattr(forms, "FOLDER", folder / "guided")
    monkeypatch.setattr(refusals, "RULES", folder / "refusal")
    return folder


@pytest.mark.parametrize(
    ("settings", "files"),
    [
        ({"algorithm": "self_rewarding", "options": {}}, {"judge/additive.txt", "refusal/en.txt"}),
        ({"algorithm": "online_dpo", "options": {}}, {"judge/pairwise.txt", "refusal/en.txt"}),
        (
            {"algorithm": "online_dpo", "options": {"compare_by": "points"}, "judge_guided": True},
            {"judge/additive.txt", "guided/points.json", "guided/preference.json", "refusal/en.txt"},
        ),
        (
            {"algorithm": "sso", "options": {}, "judge_guided": True},
            {"guided/principles.json", "guided/points.json", "guided/preference.json", "refusal/en.txt"},
        ),
        ({"algorithm": "iterative_dpo", "options": {}}, set()),
        ({"algorithm": "rft", "options": {}, "verifier": "refusal"}, {"refusal/en.txt"}),
    ],
    ids=["rubric", "choice", "points", "principles", "no judge", "refusals"],
)
def test_a_changed_prompt_file_makes_new_data_where_a_judge_is_asked_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict, files: set[str]
) -> None:
    folder = prompts_folder(tmp_path, monkeypatch)
    looked_at = ["judge/additive.txt", "judge/pairwise.txt", "judge/rubric.txt", "refusal/en.txt"]
    looked_at += [f"guided/{name}.json" for name in ("points", "preference", "principles", "grade")]
    before, moved = job(tmp_path, **settings).data_stage(1).name, set()
    for name in looked_at:
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes(kept + b"\n")
        if job(tmp_path, **settings).data_stage(1).name != before:
            moved.add(name)
        (folder / name).write_bytes(kept)
    assert moved == files


@pytest.mark.parametrize(
    ("name", "again"),
    [("judge/pairwise.txt", True), ("judge/pairwise_mistakes.txt", True), ("judge/rubric.txt", False)],
)
def test_a_changed_judge_prompt_makes_a_new_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, again: bool
) -> None:
    folder = prompts_folder(tmp_path, monkeypatch)
    settings = {"metric": "judge", "rounds": 1, "held_out_judge_prompt": "pairwise_mistakes"}
    settings["models"] = {"held_out_judge": {}}
    before = job(tmp_path, **settings).run()[1].stages
    (folder / name).write_bytes((folder / name).read_bytes() + b"\nBe fair.\n")
    after = job(tmp_path, **settings).run()[1].stages
    assert (before["evaluation"] != after["evaluation"]) is again
    assert {k: v for k, v in before.items() if k != "evaluation"} == {
        k: v for k, v in after.items() if k != "evaluation"
    }


def test_the_held_out_judge_is_asked_by_its_own_prompt(tmp_path: Path) -> None:
    asked: dict[str, str] = {}

    class Sampler(FakeSampler):
        def _reply(self, skilled: float, ask: Ask) -> Reply:
            asked[ask.model] = ask.messages[-1].content
            return super()._reply(skilled, ask)

    mine = tmp_path / "mine.txt"
    mine.write_text("{{ conversation }} Which is worse? {{ answer_a }} or {{ answer_b }}")
    settings = {"models": {"held_out_judge": {}}, "held_out_judge_prompt": str(mine)}
    job(tmp_path, metric="judge", rounds=1, sampler=Sampler, **settings).run()
    assert "Which is worse?" in asked["held_out_judge"] and "Which is worse?" not in asked["judge"]


def test_a_held_out_judge_without_a_model_is_the_first_one(tmp_path: Path) -> None:
    """It must not move with the policy that it watches."""
    loop = job(tmp_path, models={"held_out_judge": {}})
    loop._policy = "promoted"
    assert (loop._models()["held_out_judge"], loop._models()["judge"]) == (
        str(tmp_path / "first"),
        "promoted",
    )


def test_the_plan_counts_the_held_out_judges_texts(tmp_path: Path) -> None:
    """20 held-out prompts: 40 answers and 2 verdicts on each pair of them first, then 20 and 40."""
    loop = job(tmp_path, models={"held_out_judge": {}})
    plan = "\n".join(planning.lines(loop._config, read(loop._config), loop))
    assert "evaluation 80" in plan and "evaluation 60" in plan
