"""What a training job shows where there is no terminal."""

from __future__ import annotations

import pytest

from autoalign import progress
from autoalign.training.reporting import Display, counted

STEP = {
    "kind": "step",
    "step": 1,
    "total_steps": 2,
    "lr": 1e-5,
    "tokens_per_second": 330.4,
    "seconds_left": 61,
}


@pytest.mark.parametrize(
    ("figures", "shown"),
    [
        ({"loss": 0.5}, "loss 0.5000"),
        ({"loss": 0.5, "reward": 0.25}, "reward 0.2500"),
        (
            {"loss": 0.5, "rewards/accuracies": 0.75, "rewards/margins": -0.1},
            "loss 0.5000  accuracy 0.75  margin -0.100",
        ),
    ],
)
def test_a_step_shows_what_its_objective_is_judged_by(capsys, figures, shown) -> None:
    Display("dpo").show({**STEP, **figures})
    assert capsys.readouterr().err == f"dpo: step 1/2  {shown}  lr 1.00e-05  330 tok/s  00:01:01 left\n"


def test_a_long_part_of_the_job_is_counted_now_and_then(capsys, monkeypatch) -> None:
    display = Display("dpo")
    display.show(counted("reference log-probs", 0, 24))  # too soon after the start
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    display.show(counted("reference log-probs", 16, 24))
    display.show(counted("reference log-probs", 24, 24))  # it is over
    assert capsys.readouterr().err == "dpo: reference log-probs: 16 of 24 rows\n"
