"""What the sampling benchmarks compute from their runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import sample_summary, scale, scale_model, scale_run, scale_summary


def run(side: str, speed: float, n: int = 1, **more: float) -> dict[str, Any]:
    return {"side": side, "n": n, "per_second": speed, **more}


@pytest.fixture
def runs() -> list[dict[str, Any]]:
    """Two rounds: ours 300 and 200 tokens/s, LLM.generate 200 and 200, AsyncLLM 320 and 220."""
    ours = {"first_answer": 0.5, "ledger_share": 0.004}
    return [
        run("autoalign", 300, **ours),
        run("LLM.generate", 200),
        run("AsyncLLM", 320, first_answer=0.4),
        run("autoalign", 200, **{**ours, "ledger_share": 0.02}),
        run("LLM.generate", 200),
        run("AsyncLLM", 220, first_answer=0.4),
    ]


def test_ratios_are_taken_round_by_round(runs: list[dict[str, Any]]) -> None:
    found = {one["peer"]: one["ratios"] for one in sample_summary.summarise(runs)["comparisons"]}
    assert found["LLM.generate"] == [1.5, 1.0]
    assert found["AsyncLLM"] == pytest.approx([300 / 320, 200 / 220])


def test_a_missed_aim_is_said(runs: list[dict[str, Any]]) -> None:
    text = sample_summary.tables(sample_summary.summarise(runs))
    assert "| LLM.generate | 1 | 1.25 x (1.00 to 1.50) | 1 x | met |" in text
    assert "| AsyncLLM | 1 | 0.92 x (0.91 to 0.94) | 0.97 x | **missed** |" in text
    assert "at most 2.00% of the time (aim under 1%: **missed**)" in text


def test_replicas_are_held_against_one_of_them() -> None:
    facts = {"date": "2026-01-01", "commit": "c", "cpus": 2, "load_at_start": 0.1}
    found = {
        f"replicas/{count}": {"replicas": count, "ideal": 64 * count, "answers_per_second": rate, **facts}
        for count, rate in ((1, 60), (2, 108))
    }
    assert "| 2 | 108 | 0.84 | 0.90 |" in scale_summary.tables(found)


def test_a_job_in_one_process_answers_every_row(tmp_path: Path) -> None:
    """A row of the output: a question of 75 letters, its echo twice, a key of 32, names; 490 bytes."""
    figures = scale_run.rows(tmp_path, 200, launcher="local")
    assert figures["rows"] == 200 and 400 < figures["output_bytes_a_row"] < 600
    assert figures["key_bytes_a_row"] == len('"key":"",') + 32


def test_the_model_is_worked_out_of_a_job_through_ray_where_there_is_one() -> None:
    local = {"rows/10/local": {"rows": 10}, "rows/30/local": {"rows": 30}}
    assert scale.largest_job(local) == {"rows": 30}
    assert scale.largest_job({**local, "rows/20": {"rows": 20}, "replicas/2": {}}) == {"rows": 20}
    assert scale.largest_job({}) is None


def test_a_model_of_a_large_run() -> None:
    """100 shards of 1,000 rows; a row has 1 MiB of answer; a name takes a GiB by the thousand."""
    one = scale_model.Constants(
        output=2**20, prompt=0, names=2**30 / 1000, key=0, task=0, answers_per_second=50, driver_mib=1024
    )
    lines = scale_model.table(one, replicas=1000, rows=10**5, shards=100).splitlines()
    cells = {line.split("|")[1].strip(): [c.strip() for c in line.split("|")[2:4]] for line in lines}
    assert cells["rows"] == ["1,000", "100,000"]
    assert cells["drivers that are needed at least"][1] == str(1000 * 10 // 50)
    assert cells["driver's memory: what it starts with, and names of prompts"][0] == "2.0 GiB"
    assert cells["disk: answers"][0] == "1 GiB"
