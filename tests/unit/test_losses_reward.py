"""The reward model's loss, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from autoalign.errors import ConfigError
from autoalign.losses import reward

CHOSEN, REJECTED = torch.tensor([2.0, 0.5]), torch.tensor([1.0, 1.5])


def log_sigmoid(x):
    return -math.log(1 + math.exp(-x))


def test_it_is_the_bradley_terry_likelihood():
    losses = reward.loss(CHOSEN, REJECTED, reward.Options())
    assert losses.tolist() == pytest.approx([-log_sigmoid(1.0), -log_sigmoid(-1.0)])


def test_a_margin_is_taken_off_the_difference():
    losses = reward.loss(CHOSEN, REJECTED, reward.Options(), torch.tensor([0.5, 0.0]))
    assert losses.tolist() == pytest.approx([-log_sigmoid(0.5), -log_sigmoid(-1.0)])


def test_centring_adds_the_square_of_the_sum():
    losses = reward.loss(CHOSEN, REJECTED, reward.Options(center_rewards_coefficient=0.1))
    assert losses.tolist() == pytest.approx([-log_sigmoid(1.0) + 0.1 * 9, -log_sigmoid(-1.0) + 0.1 * 4])


def test_without_centring_a_constant_changes_nothing():
    options = reward.Options()
    torch.testing.assert_close(
        reward.loss(CHOSEN + 5, REJECTED + 5, options), reward.loss(CHOSEN, REJECTED, options)
    )


def test_a_negative_coefficient_is_refused():
    with pytest.raises(ConfigError, match=r"center_rewards_coefficient is -0\.1; expected 0 or more"):
        reward.Options(center_rewards_coefficient=-0.1)
