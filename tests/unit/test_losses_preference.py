"""Preference losses on numbers small enough to work out by hand, and what must hold of them all."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autoalign.losses.logps import KTOBatch, PairLogps
from autoalign.losses.preference import build, names
from autoalign.losses.reward_metrics import reward_metrics, single_reward_metrics

UNPAIRED = {"kto", "apo_zero_unpaired"}
PAIRED = sorted(set(names()) - UNPAIRED)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def pair(chosen=-4.0, rejected=-6.0, ref_chosen=-5.0, ref_rejected=-3.0, tokens=(4, 2)):
    """One pair; log-ratios 1 and -3, margin 4, mean margin 1/4 + 3/2."""
    columns = [torch.tensor([value]) for value in (chosen, rejected, *tokens, ref_chosen, ref_rejected)]
    collisions = {"chosen_collisions": torch.tensor([-2.0]), "rejected_collisions": torch.tensor([-5.0])}
    return PairLogps(*columns, **collisions)


def loss_of(name, batch=None, **options):
    return build(name, **options)(batch or pair()).losses.item()


# With beta = 0.5 the rewards of `pair()` are 0.5 and -1.5: a margin of 2.
LOG_2, LOG_M2 = math.log(sigmoid(2)), math.log(sigmoid(-2))
WORKED_OUT = [
    ("sigmoid", {}, -LOG_2),
    ("sigmoid", {"label_smoothing": 0.1}, -0.9 * LOG_2 - 0.1 * LOG_M2),
    ("sigmoid_norm", {}, -math.log(sigmoid(0.5 * 1.75))),
    ("hinge", {}, 0.0),
    ("hinge", {"beta": 0.1}, 1 - 0.4),
    ("ipo", {}, (1.75 - 1) ** 2),
    ("robust", {"label_smoothing": 0.1}, (-0.9 * LOG_2 + 0.1 * LOG_M2) / 0.8),
    (
        "exo_pair",
        {"label_smoothing": 0.1},
        sigmoid(2) * (LOG_2 - math.log(0.9)) + sigmoid(-2) * (LOG_M2 - math.log(0.1)),
    ),
    (
        "nca_pair",
        {},
        -math.log(sigmoid(0.5)) - 0.5 * math.log(sigmoid(-0.5)) - 0.5 * math.log(sigmoid(1.5)),
    ),
    ("bco_pair", {}, -math.log(sigmoid(0.5)) - math.log(sigmoid(1.5))),
    # The shift is the mean reward, (0.5 - 1.5) / 2 = -0.5.
    ("bco_pair", {"reward_shift": True}, -math.log(sigmoid(1.0)) - math.log(sigmoid(1.0))),
    ("sppo_hard", {}, (1 - 1) ** 2 + (-3 + 1) ** 2),
    # Mean log-probs of a token are -1 and -3, means of log sum p^2 -2/4 and -5/2.
    ("wpo", {}, -math.exp(-1 + 0.5 - 3 + 2.5) * LOG_2),
    # W = sigmoid(0.75 * 1 + 0.25 * 3).
    ("sso", {"sso_alpha": 0.75}, -sigmoid(1.5) * LOG_2),
    ("apo_zero", {}, 1 - sigmoid(0.5) + sigmoid(-1.5)),
    ("apo_down", {}, sigmoid(0.5) + 1 - sigmoid(2)),
    ("aot", {}, -LOG_2),
    ("aot_unpaired", {}, -LOG_2),
    ("discopop", {"discopop_tau": 1.0}, -(1 - sigmoid(2)) * LOG_2 + sigmoid(2) * math.exp(-2)),
    ("simpo", {"simpo_gamma": 0.3}, -math.log(sigmoid(0.5 * (-1 + 3) - 0.3))),
    ("cpo", {}, -math.log(sigmoid(0.5 * 2)) + 4 / 4),
    ("cpo", {"cpo_alpha": 0.0}, -math.log(sigmoid(0.5 * 2))),
]


@pytest.mark.parametrize(("name", "options", "expected"), WORKED_OUT)
def test_the_formula_by_hand(name, options, expected):
    assert loss_of(name, **{"beta": 0.5, **options}) == pytest.approx(expected, abs=1e-6)


def test_orpo_by_hand():
    def log_odds(mean_logp):
        return math.log(math.exp(mean_logp) / (1 - math.exp(mean_logp)))

    expected = 4 / 4 - 0.5 * math.log(sigmoid(log_odds(-1) - log_odds(-3)))
    assert loss_of("orpo", beta=0.5) == pytest.approx(expected, abs=1e-6)


def test_orpo_is_finite_where_an_answer_is_certain():
    batch = pair(chosen=0.0, tokens=(1, 2))
    chosen = batch.chosen.requires_grad_()
    loss = build("orpo")(batch).losses.sum()
    (gradient,) = torch.autograd.grad(loss, chosen)
    assert math.isfinite(loss.item()) and gradient.isfinite().all()


def test_sso_weighs_each_pair_with_a_gradient_through_the_weight():
    """Against the formula written out; beta 0.5, alpha 0.66 of the chosen answer's mean log-prob."""
    chosen, rejected = (torch.tensor(values, requires_grad=True) for values in ([-4.0, -1.0], [-6.0, -8.0]))
    lengths = torch.tensor([4.0, 2.0]), torch.tensor([2.0, 5.0])
    refs = torch.tensor([-5.0, -1.5]), torch.tensor([-3.0, -7.0])
    losses = build("sso", beta=0.5)(PairLogps(chosen, rejected, *lengths, *refs)).losses
    weight = 1 / (1 + torch.exp(0.66 * chosen / lengths[0] + 0.34 * rejected / lengths[1]))
    z = 0.5 * ((chosen - refs[0]) - (rejected - refs[1]))
    expected = weight * torch.log(1 + torch.exp(-z))
    torch.testing.assert_close(losses, expected)
    ours, theirs = (torch.autograd.grad(each.sum(), (chosen, rejected)) for each in (losses, expected))
    torch.testing.assert_close(ours, theirs)
    # By hand for the first pair, L = log(1 + e^-2) and mean log-probs -1 and -3:
    # dloss/dlog p(y_l) = W beta s(-z) - L W (1 - W) 0.34 / 2.
    w, missed = sigmoid(0.66 + 3 * 0.34), -LOG_2
    assert ours[1][0].item() == pytest.approx(w * 0.5 * sigmoid(-2) - missed * w * (1 - w) * 0.34 / 2)


def test_sft_averages_over_tokens_or_over_rows():
    batch = replace(pair(), chosen=torch.tensor([-4.0, -9.0]), chosen_tokens=torch.tensor([4, 3]))
    assert build("sft")(batch).losses.mean().item() == pytest.approx(13 / 7)
    assert build("sft", nll_average="rows")(batch).losses.mean().item() == pytest.approx((1 + 3) / 2)


def test_the_mean_over_tokens_survives_cutting_a_step_into_micro_batches():
    lengths = torch.tensor([4, 3, 8])
    whole = PairLogps(torch.tensor([-4.0, -9.0, -2.0]), torch.zeros(3), lengths, lengths)
    mean = lengths.float().mean()
    parts = [
        replace(whole, chosen=whole.chosen[rows], chosen_tokens=lengths[rows], mean_chosen_tokens=mean)
        for rows in (slice(0, 1), slice(1, 3))
    ]
    objective = build("sft")
    assert torch.equal(torch.cat([objective(part).losses for part in parts]), objective(whole).losses)


def test_likelihood_leaves_ld_dpos_weights_out():
    batch = replace(pair(), chosen_unweighted=torch.tensor([-8.0]))
    assert loss_of("sft", batch) == pytest.approx(8 / 4)


def test_kto_by_hand():
    batch = KTOBatch(
        torch.tensor([-4.0, -6.0]), torch.tensor([-5.0, -3.0]), torch.tensor([True, False]), torch.tensor(2.0)
    )
    losses = build("kto", beta=0.5, undesirable_weight=3.0)(batch).losses
    # Log-ratios 1 and -3 against a KL of 2.
    assert losses.tolist() == pytest.approx([1 - sigmoid(0.5 * (1 - 2)), 3 * (1 - sigmoid(0.5 * (2 + 3)))])


def test_kto_takes_a_negative_kl_for_zero_and_gives_it_no_gradient():
    kl = torch.tensor(-1.0, requires_grad=True)
    batch = KTOBatch(torch.tensor([-4.0]), torch.tensor([-5.0]), torch.tensor([True]), kl)
    losses = build("kto", beta=0.5)(batch).losses
    assert losses.item() == pytest.approx(1 - sigmoid(0.5))
    assert not losses.requires_grad


def test_bcos_shift_is_the_mean_of_every_reward_seen():
    objective = build("bco_pair", beta=0.5, reward_shift=True)
    first = objective(pair())
    second = objective(pair(ref_chosen=-4.0, ref_rejected=-6.0), first.state)
    # Rewards 0.5 and -1.5, then 0 and 0.
    assert second.state["bco_pair"].mean.item() == pytest.approx((0.5 - 1.5 + 0 + 0) / 4)
    assert second.losses.item() == pytest.approx(-math.log(sigmoid(0.25)) - math.log(sigmoid(-0.25)))


def test_a_call_leaves_the_state_that_it_was_given_alone():
    objective = build("bco_pair", reward_shift=True)
    state = objective.initial_state()
    objective(pair(), state)
    assert state["bco_pair"].count == 0


def test_aot_compares_sorted_margins():
    batch = PairLogps(
        torch.tensor([3.0, 1.0]),
        torch.zeros(2),
        torch.ones(2),
        torch.ones(2),
        torch.tensor([0.0, 5.0]),
        torch.zeros(2),
    )
    # Policy margins 1, 3 and reference margins 0, 5 in order: differences 1 and -2.
    expected = [-math.log(sigmoid(1)), -math.log(sigmoid(-2))]
    assert build("aot", beta=1.0)(batch).losses.tolist() == pytest.approx(expected)


def random_pairs(seed, rows=5):
    torch.manual_seed(seed)
    logps = [-10 * torch.rand(rows) - 0.1 for _ in range(4)]
    lengths = [torch.randint(1, 9, (rows,)) for _ in range(2)]
    collisions = {name: -torch.rand(rows) for name in ("chosen_collisions", "rejected_collisions")}
    return PairLogps(logps[0], logps[1], *lengths, logps[2], logps[3], **collisions)


def swapped(batch):
    return PairLogps(
        batch.rejected,
        batch.chosen,
        batch.rejected_tokens,
        batch.chosen_tokens,
        batch.ref_rejected,
        batch.ref_chosen,
    )


@pytest.mark.parametrize("name", PAIRED)
@given(seed=st.integers(0, 2**31))
def test_swapping_the_answers_turns_the_margin_round(name, seed):
    objective, batch = build(name), random_pairs(seed)
    there, back = reward_metrics(objective.rewards(batch)), reward_metrics(objective.rewards(swapped(batch)))
    assert back["rewards/margins"].item() == pytest.approx(-there["rewards/margins"].item(), abs=1e-5)
    assert back["rewards/accuracies"].item() == pytest.approx(1 - there["rewards/accuracies"].item())


@pytest.mark.parametrize("name", ["sigmoid", "exo_pair"])
@given(seed=st.integers(0, 2**31))
def test_labels_that_tell_nothing_make_a_symmetric_loss(name, seed):
    objective, batch = build(name, label_smoothing=0.5), random_pairs(seed)
    torch.testing.assert_close(objective(batch).losses, objective(swapped(batch)).losses)


def at_the_reference():
    """A pair of which the policy thinks what the reference does, its log-probs wanting gradients."""
    policy = [torch.tensor([-5.0], requires_grad=True) for _ in range(2)]
    lengths, zero = [torch.tensor([5])] * 2, torch.zeros(1)
    references = (logp.detach() for logp in policy)
    return PairLogps(*policy, *lengths, *references, chosen_collisions=zero, rejected_collisions=zero)


@pytest.mark.parametrize("name", sorted(set(PAIRED) - {"sft", "discopop"}))
def test_the_first_step_lowers_the_rejected_answer_against_the_chosen(name):
    batch = at_the_reference()
    loss = build(name)(batch).losses.sum()
    chosen, rejected = torch.autograd.grad(loss, (batch.chosen, batch.rejected))
    assert rejected.item() > max(0, chosen.item())


def test_discopops_first_step_goes_the_wrong_way():
    """Its slope at z = 0 is -1/4 - 1/2 + (1 - log 2) / (4 tau), above 0 for the paper's tau."""
    batch = at_the_reference()
    (slope,) = torch.autograd.grad(build("discopop", beta=1.0)(batch).losses.sum(), batch.chosen)
    assert slope.item() == pytest.approx(-0.75 + (1 - math.log(2)) / (4 * 0.05))


@pytest.mark.parametrize(
    "name", [n for n in PAIRED if not build(n).couples_rows and n not in ("sft", "cpo", "orpo")]
)
def test_a_rows_loss_does_not_change_with_its_neighbours(name):
    batch, objective = random_pairs(0), build(name)
    columns = ("chosen", "rejected", "chosen_tokens", "rejected_tokens", "ref_chosen", "ref_rejected")
    columns = (*columns, "chosen_collisions", "rejected_collisions")
    alone = PairLogps(**{column: getattr(batch, column)[:1] for column in columns})
    assert objective(alone).losses[0] == objective(batch).losses[0]


@pytest.mark.parametrize("name", [n for n in PAIRED if not build(n).needs_reference])
def test_reference_free_losses_want_no_reference(name):
    batch = replace(random_pairs(1), ref_chosen=None, ref_rejected=None)
    assert build(name)(batch).losses.isfinite().all()


@pytest.mark.parametrize("name", [n for n in PAIRED if build(n).needs_reference])
def test_a_missing_reference_is_named(name):
    with pytest.raises(ValueError, match="ref_chosen"):
        build(name)(replace(random_pairs(1), ref_chosen=None, ref_rejected=None))


def test_reward_metrics_by_hand():
    batch = PairLogps(
        torch.tensor([-4.0, -4.0]),
        torch.tensor([-6.0, -2.0]),
        torch.ones(2),
        torch.ones(2),
        torch.tensor([-5.0, -4.0]),
        torch.tensor([-3.0, -4.0]),
    )
    metrics = reward_metrics(build("sigmoid", beta=0.5).rewards(batch))
    # Rewards 0.5 and 0 against -1.5 and 1: one pair of two is in order.
    assert {name: value.item() for name, value in metrics.items()} == {
        "rewards/chosen": 0.25,
        "rewards/rejected": -0.25,
        "rewards/margins": 0.5,
        "rewards/accuracies": 0.5,
    }


def test_rewards_of_single_answers_leave_out_an_empty_side():
    batch = KTOBatch(torch.tensor([-4.0]), torch.tensor([-5.0]), torch.tensor([True]), torch.tensor(0.0))
    metrics = single_reward_metrics(build("kto", beta=0.5).rewards(batch))
    assert {name: value.item() for name, value in metrics.items()} == {"rewards/chosen": 0.5}
