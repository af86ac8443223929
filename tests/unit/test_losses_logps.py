"""Token log-probs summed into answers' log-probs."""

from __future__ import annotations

import pytest
import torch

from autoalign.losses.logps import sum_answers

TOKENS = torch.tensor([-1.0, -2.0, -4.0, -8.0, -16.0])


def test_each_answer_is_the_sum_of_its_tokens():
    assert sum_answers(TOKENS, [2, 3]).tolist() == [-3.0, -28.0]


def test_the_part_past_the_shorter_answers_length_counts_for_ld_alpha():
    sums = sum_answers(TOKENS, [2, 3], shared_lengths=[2, 2], ld_alpha=0.5)
    assert sums.tolist() == [-3.0, -4.0 - 8.0 + 0.5 * -16.0]


def test_an_ld_alpha_of_zero_leaves_it_out():
    assert sum_answers(TOKENS, [2, 3], shared_lengths=[2, 2], ld_alpha=0.0).tolist() == [-3.0, -12.0]


def test_an_ld_alpha_of_one_changes_nothing():
    assert torch.equal(
        sum_answers(TOKENS, [2, 3], shared_lengths=[2, 2], ld_alpha=1.0), sum_answers(TOKENS, [2, 3])
    )


def test_an_answers_bits_do_not_depend_on_its_neighbours():
    torch.manual_seed(0)
    tokens = torch.randn(1000)
    alone = sum_answers(tokens[100:700], [600])
    assert torch.equal(sum_answers(tokens, [100, 600, 300])[1:2], alone)


def test_an_empty_answer_sums_to_zero():
    assert sum_answers(TOKENS, [5, 0]).tolist() == [-31.0, 0.0]


def test_the_gradient_of_a_token_is_its_weight():
    tokens = TOKENS.clone().requires_grad_()
    sums = sum_answers(tokens, [2, 3], shared_lengths=[2, 2], ld_alpha=0.25)
    (gradient,) = torch.autograd.grad(sums.sum(), tokens)
    assert gradient.tolist() == [1.0, 1.0, 1.0, 1.0, 0.25]


def test_lengths_that_do_not_add_up_are_refused():
    with pytest.raises(RuntimeError, match="split_sizes to sum exactly to 5"):
        sum_answers(TOKENS, [2, 2])
