"""Counts of a sampling job: lengths by rank, amounts over time, the progress line, the picture."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoalign.sampling import pictures, progress
from autoalign.sampling.figures import Figures, Timeline
from autoalign.sampling.messages import Answer
from autoalign.sampling.progress import SampleProgress
from autoalign.sampling.report import SampleReport, print_report
from autoalign.sampling.run import with_picture


def answer(tokens: int, reason: str = "stop", error: str | None = None) -> Answer:
    return Answer(0, 0, "t", reason, 10, tokens, 1, error, 0.0)


def counted(*tokens: int) -> Figures:
    figures = Figures()
    figures.add([answer(each) for each in tokens], 0.5)
    return figures


def test_lengths_by_nearest_rank() -> None:
    figures = counted(1, 2, 3, 4)
    assert [figures.length(share) for share in (0.25, 0.5, 0.51, 0.95, 1.0)] == [1, 2, 3, 4, 4]


def test_failures_have_a_reason_and_no_length() -> None:
    figures = counted(7)
    figures.add([answer(0, "error", "why")], 1.0)
    assert (dict(figures.reasons), dict(figures.lengths)) == ({"stop": 1, "error": 1}, {7: 1})
    assert (figures.prompt_tokens, figures.output_tokens) == (10, 7)


def test_a_timeline_keeps_its_sum_and_its_size() -> None:
    """256 bins of 1 s; at second 1,000 they have become 4 s wide."""
    line = Timeline()
    for second in range(1001):
        line.add(second, 2.0)
    assert (line.width, len(line.bins), sum(line.bins)) == (4.0, 251, 2002.0)
    assert line.bins[:2] == [8.0, 8.0]


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> SampleProgress:
    """Ten answers to come; the engine has been at work for five seconds."""
    monkeypatch.setattr(progress.time, "time", lambda: 105.0)
    shown = SampleProgress(10)
    shown.engine_ready(100.0)
    return shown


def test_the_line_tells_rates_engines_and_what_waits(job: SampleProgress) -> None:
    """Four answers in 5 s are 0.8/s; six are left, of which one waits: 7.5 s."""
    job.heard("a", 2)
    job.heard("b", 3)
    job.heard("a", 1)
    job.advance(3, 1, 50, 25)
    assert job._line() == (
        "4/10 answers, 0.80 rows/s, tok/s 10 in 5 out, replicas 2, in flight 4, waiting 2, errors 1, 8 s left"
    )


def test_no_time_left_is_told_while_the_first_answers_come_in(job: SampleProgress) -> None:
    job.heard("a", 9)
    job.advance(1, 0, 5, 5)
    assert "left" not in job._line()


def test_the_table_tells_reasons_lengths_and_rates() -> None:
    figures = counted(2, 4, 4)
    figures.add([answer(8, "length")], 1.0)
    report = SampleReport(
        4, 4, 0, 0, 40, 18, 20.0, 10.0, Path("a.jsonl"), None, generation_seconds=2.0, figures=figures
    )
    rows = dict(report.rows())
    assert rows["rates"] == "2.00 rows/s, 20 prompt tok/s, 9 output tok/s"
    assert rows["finish reasons"] == "stop 3 (75%), length 1 (25%)"
    assert rows["answer tokens"] == "median 4, 95% 8, longest 8"


@pytest.mark.parametrize("tokens", [(), (5,), (1, 90, 90)])
def test_a_picture_of_any_number_of_answers(tokens: tuple[int, ...], tmp_path: Path) -> None:
    pictures.draw(counted(*tokens), tmp_path / "sample.png", "title")
    assert (tmp_path / "sample.png").read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [tmp_path / "sample.png"]


def test_a_finished_job_shows_its_table_and_draws_its_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "a.jsonl"
    report = SampleReport(1, 1, 0, 0, 10, 4, 2.0, 1.0, output, None, figures=counted(4))
    print_report(with_picture(report))
    shown = capsys.readouterr().out
    assert f"picture in {tmp_path / 'sample.png'}" in shown and "stop 1 (100%)" in shown
    assert (tmp_path / "sample.png").is_file()
