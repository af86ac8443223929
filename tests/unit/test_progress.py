"""What is shown without a terminal, and on one."""

import io
import sys

import pytest

from autoalign import progress
from autoalign.merging.progress import MergeProgress
from autoalign.progress import ProgressBar
from autoalign.scoring.progress import ScoreProgress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Puts a terminal in stderr's place, in the test itself: pytest sets stderr after the fixtures."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")

    def put():
        monkeypatch.setattr(sys, "stderr", Terminal())
        return sys.stderr

    return put


@pytest.fixture
def always(monkeypatch):
    """Every plain line is due."""
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)


def test_a_line_comes_when_it_is_due(capsys):
    bar = ProgressBar("job")
    bar.start(10)
    bar.update(1, lambda: "1 of 10")
    bar.update(2, lambda: "2 of 10", now=True)
    assert capsys.readouterr().err == "job: 2 of 10\n"


def test_a_quiet_bar_says_nothing(capsys):
    bar = ProgressBar("job", quiet=True)
    bar.update(1, lambda: "1 of 10", now=True)
    bar.say("done")
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar_with_count_and_figures(terminal):
    screen = terminal()
    bar = ProgressBar("job")
    bar.start(10, "working")
    bar.update(4, lambda: "never", figures="9.5 rows/s")
    bar.say("by the way")
    bar.stop()
    shown = screen.getvalue()
    assert all(part in shown for part in ("working", "4/10", "9.5 rows/s", "job: by the way"))
    assert "never" not in shown


def test_bytes_are_shown_as_sizes(terminal):
    screen = terminal()
    with MergeProgress(2_000_000) as bar:
        bar.advance(1_000_000)
    assert "1.0/2.0 MB" in screen.getvalue()


def test_merging_in_lines(always, capsys):
    with MergeProgress(2_000_000_000) as bar:
        bar.advance(500_000_000)
    assert capsys.readouterr().err.startswith("merge: 0.50 of 2.00 GB, ")


def test_scoring_in_lines(always, capsys, tmp_path):
    rows = tmp_path / "answers.jsonl"
    rows.write_text("{}\n" * 8)
    with ScoreProgress([str(rows)]) as bar:
        bar.advance(2)
    assert capsys.readouterr().err.startswith("score: 2 of 8 rows  ")
