"""Which steps count as bad, and when they end the job."""

import math

import pytest

pytest.importorskip("torch")

import torch

from autoalign.config.sft import SFTConfig
from autoalign.errors import JobFailed
from autoalign.training.bad_steps import BadStepGuard
from autoalign.training.checkpoint import Progress
from autoalign.training.world import World

ALONE = World(0, 1, torch.device("cpu"))


class OtherRankIsBad(World):
    def any(self, flag):
        return True


def guard(world=ALONE, progress=None, **values):
    required = {"model_name_or_path": "m", "data_path": ["d"], "output_dir": "o", "on_bad_loss": "skip"}
    return BadStepGuard(SFTConfig(**{**required, **values}), world, progress or Progress())


def all_accepted(watched, losses):
    return [watched.accepts(step, loss, 1.0) for step, loss in enumerate(losses, 1)]


@pytest.mark.parametrize(("loss", "norm"), [(math.nan, 1), (math.inf, 1), (1, math.nan), (1, math.inf)])
def test_what_is_not_finite_is_skipped(loss, norm):
    watched = guard()
    assert not watched.accepts(1, loss, norm)
    assert watched.problem == f"loss {loss}, gradient norm {norm}"


def test_by_default_it_ends_the_job():
    with pytest.raises(JobFailed, match="step 7: loss nan"):
        guard(on_bad_loss="stop").accepts(7, math.nan, 1.0)


def test_a_good_step_between_starts_the_count_anew():
    watched = guard(max_bad_steps=2)
    assert all_accepted(watched, [math.nan, 1.0, math.nan]) == [False, True, False]
    with pytest.raises(JobFailed, match="the last 2 steps were all bad"):
        watched.accepts(4, math.nan, 1.0)


def test_without_a_factor_large_is_not_bad():
    watched = guard(loss_spike_window=2)
    assert all(all_accepted(watched, [1.0, 1.0, 1e9]))


def test_a_spike_is_over_the_factor_times_the_median():
    """The median of 1, 2, 6 is 2: 8 is four times it and taken, 8.1 is over."""
    before = Progress(recent_losses=(1.0, 2.0, 6.0))
    watched = guard(loss_spike_factor=4, loss_spike_window=3, progress=before)
    assert not watched.accepts(4, 8.1, 1.0)
    assert watched.problem == "loss 8.1, over 4 times the median 2 of the last 3"
    assert watched.accepts(5, 8.0, 1.0)


def test_a_gradient_may_spike_too():
    watched = guard(loss_spike_factor=4, loss_spike_window=1)
    assert watched.accepts(1, 1.0, 0.5)
    assert not watched.accepts(2, 1.0, 2.1)


def test_the_rule_waits_for_a_full_window():
    watched = guard(loss_spike_factor=2, loss_spike_window=3)
    assert all_accepted(watched, [1, 9, 1, 9]) == [True, True, True, False]


def test_a_spike_does_not_count_as_usual():
    watched = guard(loss_spike_factor=2, loss_spike_window=1)
    assert all_accepted(watched, [1, 9, 9]) == [True, False, False]


def test_a_median_that_is_not_positive_says_nothing():
    watched = guard(loss_spike_factor=2, loss_spike_window=1)
    assert all_accepted(watched, [-1.0, 5.0]) == [True, True]


def test_what_another_rank_skips_is_skipped_here():
    watched = guard(OtherRankIsBad(0, 2, torch.device("cpu")))
    assert not watched.accepts(1, 1.0, 1.0)
    assert watched.problem == "another rank's loss or gradient is bad"
