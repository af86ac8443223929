"""What the proofs of automatic alignment read, compute and show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from autoalign import formats
from autoalign.alignment import prompts
from autoalign.config.align import AlignConfig
from autoalign.config.grpo import GRPOConfig
from benchmarks import align, align_data, align_margin, align_tables
from benchmarks.align_margin import Likelihood
from benchmarks.align_proofs import PROOFS, Figure, Seed

MACHINE = {
    "date": "2026-01-02T03:04:05",
    "commit": "c",
    "processor": "P",
    "cpus": 2,
    "versions": {"torch": "2"},
}


def seed(*figures: tuple[str, float, float, str], seconds: float = 60, load: float = 0.1) -> dict[str, Any]:
    found = [Figure(*one)._asdict() for one in figures]
    return {"figures": found, "seconds": seconds, "load_at_start": load, **MACHINE}


def test_a_table_has_means_and_spread_and_counts_seeds() -> None:
    """Changes 0.2, 0.4 and -0.3: mean 0.1, standard deviation sqrt((0.01 + 0.09 + 0.16) / 2) = 0.36."""
    afters = {"1": 0.6, "2": 0.8, "3": 0.1}
    found = {"rft": {name: seed(("right", 0.4, after, "up")) for name, after in afters.items()}}
    row = "| `rft` | right | 0.40 ± 0.00 | 0.50 ± 0.36 | +0.10 ± 0.36 | 2 of 3 up |"
    assert align_tables.table(found).splitlines()[-1] == row


def test_one_seed_has_no_spread_and_large_figures_one_digit() -> None:
    text = align_tables.table({"rlcd_sys": {"1": seed(("words", 103.24, 12.5, "down"))}})
    assert text.splitlines()[-1] == "| `rlcd_sys` | words | 103.2 | 12.5 | -90.7 | 1 of 1 down |"


@pytest.mark.parametrize(
    ("wanted", "change", "good"),
    [("up", 0.1, True), ("up", 0.0, False), ("down", -1, True), ("kept", 0.0, True), ("kept", -0.1, False)],
)
def test_kept_is_what_does_not_fall(wanted: str, change: float, good: bool) -> None:
    assert align_tables.as_wanted(wanted, change) is good


def test_circumstances_name_minutes_of_a_seed_and_loads() -> None:
    found = {"grpo": {"1": seed(seconds=90), "2": seed(seconds=150, load=1.5)}}
    text = align_tables.circumstances(found)
    assert (
        "load 0.1 to 1.5 at the starts" in text and "`grpo` 2.0." in text and "2026-01-02, commit c" in text
    )


def test_a_margin_is_per_answer_and_a_likelihood_per_token() -> None:
    """(-10 + 30) / 2 and (-20 + 60) / 2: margins 20 and 40 nats; -10 / 5 and -20 / 40 nats a token."""
    chosen = [Likelihood(-10, 5), Likelihood(-20, 40)]
    rejected = [Likelihood(-30, 9), Likelihood(-60, 9)]
    assert align_margin.margin_of(chosen, rejected) == (30.0, -1.25)


def test_svamp_rows_read_like_gsm8k() -> None:
    row = {"ID": "chal-1", "Body": "Packs cost 76 dollars", "Question": "How much are 2?", "Answer": 152.0}
    assert align_data.svamp_row({**row, "Equation": "( 76.0 * 2.0 )"}) == {
        "id": "chal-1",
        "question": "Packs cost 76 dollars. How much are 2?",
        "answer": "76 * 2 = 152\n#### 152",
    }


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three behaviours of HarmBench, one with a context, and four prompts of XSTest, two of them harmful."""
    safety = tmp_path / "safety"
    safety.mkdir()
    (safety / "harmbench_behaviors_text_test.csv").write_text(
        "Behavior,FunctionalCategory,BehaviorID\nDo a,standard,a\nDo b,contextual,b\nDo c,standard,c\n"
    )
    kinds = ("homonyms", "contrast_homonyms", "figurative", "contrast_figurative")
    rows = [{"id": f"v2-{place}", "type": kind, "prompt": kind} for place, kind in enumerate(kinds)]
    (safety / "xstest.json").write_text(json.dumps(rows))
    return tmp_path


def test_harmful_prompts_are_on_one_side_alone(data: Path) -> None:
    split = align_data.harmbench(data, 8, 8)
    assert [row["id"] for row in split.training] == ["a"]
    assert [row["messages"][0]["content"] for row in split.held_out] == ["Do c"]


def test_safe_prompts_are_those_without_a_contrast(data: Path) -> None:
    assert [row["id"] for row in align_data.xstest_safe(data, 2)] == ["v2-0", "v2-2"]


def test_too_few_rows_are_refused(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"id": "a", "question": "Why?"}\n')
    with pytest.raises(SystemExit, match="1 rows to learn from beside 1 held out, but there are 0"):
        align_data.questions(tmp_path / "q.jsonl", 1, 1)


def test_a_problem_that_is_held_out_in_another_form_is_not_learned_from(tmp_path: Path) -> None:
    """The first and the last share their first fourteen words."""
    story = "Paco had 26 salty cookies and 17 sweet ones before he ate 14 of"
    asked = [f"{story} the salty ones.", "How many days has a week of seven?", f"{story} the sweet ones."]
    rows = [{"id": str(place), "question": text} for place, text in enumerate(asked)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    split = align_data.questions(tmp_path / "q.jsonl", 1, 1)
    assert [row["id"] for row in (*split.training, *split.held_out)] == ["1", "2"]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The benchmark with a proof that takes no time, in folders of its own."""
    for name in ("RESULTS", "WORK"):
        monkeypatch.setattr(align, name, tmp_path / name)
    monkeypatch.setattr(align.machine, "facts", lambda root, packages: {**MACHINE, "load_at_start": 0.0})
    (tmp_path / "page.md").write_text("<!-- bench-align: begin -->\n<!-- bench-align: end -->\n")
    for name in PROOFS:
        monkeypatch.setitem(PROOFS, name, lambda one: [Figure("seed", 0.0, float(one.number), "up")])
    return tmp_path


def test_seeds_that_are_there_are_not_run_again(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = ["--docs", str(bench / "page.md")]
    assert align.main(["spin", "--seeds", "1", *page]) == 0
    assert align.main(["spin", "--seeds", "2", *page]) == 0
    ran = [line for line in capsys.readouterr().out.splitlines() if line.endswith("running")]
    assert ran == ["spin, seed 1: running", "spin, seed 2: running"]
    assert (
        "| `spin` | seed | 0.00 ± 0.00 | 1.50 ± 0.71 | +1.50 ± 0.71 | 2 of 2 up |"
        in (bench / "page.md").read_text()
    )


def test_minutes_end_a_run_with_what_is_there(bench: Path) -> None:
    page = ["--docs", str(bench / "page.md")]
    assert align.main(["spin", "--seeds", "1", *page]) == 0
    assert align.main(["spin", "--seeds", "3", "--minutes", "-1", *page]) == 3
    assert list(json.loads((bench / "RESULTS" / "align.json").read_text())["spin"]) == ["1"]


def test_a_quick_look_is_kept_out_of_the_results(bench: Path) -> None:
    assert align.main(["spin", "--seeds", "1", "--size", "0.1"]) == 0
    assert not (bench / "RESULTS" / "align.json").exists()


def test_a_quick_look_has_a_share_of_the_rows(tmp_path: Path) -> None:
    small = Seed("model", tmp_path, tmp_path, 1, 0.25)
    assert (small.sized(64), small.sized(8)) == (16, 4)


def of_share(value: float) -> dict[str, float]:
    return {"value": value, "low": 0.0, "high": 1.0}


EVALUATION = {
    "policy_accuracy": of_share(0.25),
    "accuracy": of_share(0.75),
    "words": 30.0,
    "length_drift": 0.5,
    "benchmark": of_share(0.3),
    "forgetting": of_share(-0.1),
    "held_out_judge": of_share(0.05),
}


@pytest.fixture
def one(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Seed:
    """A seed whose jobs end in `EVALUATION` at once."""
    monkeypatch.setattr(Seed, "align", lambda *_, **__: [{"evaluation": EVALUATION}])
    return Seed("model", data, tmp_path, 1)


def test_brevity_reads_length_judge_and_benchmark(one: Seed) -> None:
    """30 words are half of the first model's 60; sums fell by 0.1 to 0.3; the judge's gain is over 1/2."""
    found = {figure.name.split()[0]: (figure.before, figure.after) for figure in PROOFS["rlcd_sys"](one)}
    assert found["answers"] == (0.25, 0.75) and found["words"] == (60.0, 30.0)
    assert found["win"] == (0.5, 0.55) and found["sums"] == pytest.approx((0.4, 0.3))


def test_cai_reads_refusals_and_what_stays_answered(one: Seed) -> None:
    """30% of the safe prompts are refused, 10 points fewer than before: 60% were answered, now 70%."""
    harmful, safe, _ = PROOFS["cai"](one)
    assert (harmful.before, harmful.after) == (0.25, 0.75)
    assert (safe.before, safe.after) == pytest.approx((0.6, 0.7))


def test_rft_is_compared_with_the_plain_sft_that_it_drew_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Right: 3% of the first model's answers, 6% of plain SFT's, 9% of RFT's, with 20 rows more."""
    shares = [(0.03, 0.06), (0.06, 0.09)]
    rounds = [
        {
            "evaluation": {"policy_accuracy": of_share(before), "accuracy": of_share(after)},
            "data": {"rows": 128 + 20 * place},
        }
        for place, (before, after) in enumerate(shares)
    ]
    monkeypatch.setattr(Seed, "align", lambda *_, **__: rounds)
    monkeypatch.setattr(align_data, "svamp", lambda *_: align_data.Split([], []))
    found = [(one.before, one.after) for one in PROOFS["rft"](Seed("model", tmp_path, tmp_path, 1))]
    assert found == [(0.06, 0.09), (0.03, 0.06), (0.0, 20.0)]


def test_grpo_reads_the_first_and_the_last_quarter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rewards = [{"step": n, "reward": n / 10} for n in range(8)]
    lines = [{"step": 0, "eval_reward": 0.1}, *rewards, {"step": 8, "eval_reward": 0.9}]
    monkeypatch.setattr(Seed, "grpo", lambda *_, **__: lines)
    steps, held_out = PROOFS["grpo"](Seed("model", tmp_path, tmp_path, 1))
    assert (steps.before, steps.after) == pytest.approx((0.05, 0.65))
    assert (held_out.before, held_out.after) == (0.1, 0.9)


class Built(Exception):
    """The job's config is whole, and its prompts are there."""


@pytest.mark.parametrize("name", list(PROOFS))
def test_every_proof_makes_a_job_that_its_command_takes(
    name: str, shared_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(seed: Seed, command: str, config: dict[str, Any]) -> None:
        if command == "grpo":
            assert (
                len(formats.load(GRPOConfig.build(config).data_path, purpose="prompts").conversations) == 56
            )
        else:
            job = AlignConfig.build(config)
            sets = prompts.read(job)
            assert len(sets.training) >= (job.prompts_per_round or 0) * (1 if name == "rft" else job.rounds)
            assert (
                len(sets.held_out) == job.held_out and sets.benchmark[: job.benchmark_limit] == sets.benchmark
            )
        raise Built

    monkeypatch.chdir(align.ROOT)
    monkeypatch.setattr(Seed, "_run", build)
    with pytest.raises(Built):
        PROOFS[name](Seed("models/any", shared_dir / "data", tmp_path, 1))
