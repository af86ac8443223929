"""Objectives from names, weights and settings."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from autoalign.errors import ConfigError, UnknownName
from autoalign.losses.logps import PairLogps
from autoalign.losses.preference import build, names

ISSUED = (
    "sigmoid hinge ipo robust exo_pair nca_pair bco_pair sppo_hard wpo apo_zero apo_down aot discopop"
    " orpo simpo cpo kto"
)


def batch():
    return PairLogps(*(torch.tensor([value]) for value in (-4.0, -6.0, 4, 2, -5.0, -3.0)))


def test_the_losses_are_found_by_file_name():
    assert set(ISSUED.split()) <= set(names())


def test_an_unknown_loss_is_answered_with_those_there_are():
    with pytest.raises(UnknownName, match=r"did you mean 'sigmoid'.*apo_down, apo_zero"):
        build("sigmoidd")


def test_a_list_is_the_weighted_sum_of_its_parts():
    outcome = build(["sigmoid", "hinge"], loss_weights=[0.8, 0.5], beta=0.1)(batch())
    logistic, hinge = math.log(1 + math.exp(-0.4)), 1 - 0.4
    assert outcome.losses.item() == pytest.approx(0.8 * logistic + 0.5 * hinge)
    assert {name: part.item() for name, part in outcome.parts.items()} == pytest.approx(
        {"sigmoid": logistic, "hinge": hinge}
    )


def test_rpo_alpha_adds_the_likelihood_of_the_chosen_answer():
    assert build("hinge", beta=0.1, rpo_alpha=0.5)(batch()).losses.item() == pytest.approx(0.6 + 0.5 * 4 / 4)


def test_a_setting_goes_to_each_loss_that_has_it():
    objective = build(["sigmoid", "discopop"], beta=0.3, discopop_tau=0.2, label_smoothing=None)
    assert [term.options.beta for term in objective.terms] == [0.3, 0.3]
    assert objective.terms[1].options.discopop_tau == 0.2


def test_a_setting_that_no_loss_has_is_refused():
    with pytest.raises(ConfigError, match="label_smoothing is no option of loss_type ipo; there are: beta"):
        build("ipo", label_smoothing=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss_type": "sigmoid", "beta": 0.0}, "beta is 0.0; expected a number above 0"),
        ({"loss_type": "sigmoid", "beta": math.nan}, "beta is nan"),
        ({"loss_type": "sigmoid", "label_smoothing": 0.6}, "label_smoothing is 0.6"),
        ({"loss_type": "robust", "label_smoothing": 0.5}, "label_smoothing is 0.5"),
        ({"loss_type": "exo_pair", "label_smoothing": 0.0}, "label_smoothing is 0.0"),
        ({"loss_type": "sft", "nll_average": "words"}, "nll_average is 'words'"),
        ({"loss_type": "sso", "sso_alpha": 1.5}, "sso_alpha is 1.5; expected 0 to 1"),
        ({"loss_type": []}, "at least one loss"),
        ({"loss_type": ["ipo", "ipo"]}, "each loss once"),
        ({"loss_type": ["ipo", "hinge"], "loss_weights": [1.0]}, "2, one for each loss_type"),
        ({"loss_type": "sigmoid", "rpo_alpha": -1.0}, "rpo_alpha is -1.0"),
        ({"loss_type": ["kto", "sigmoid"]}, "cannot be mixed"),
    ],
)
def test_a_value_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        build(**arguments)


@pytest.mark.parametrize(
    ("loss_type", "needs"), [("sigmoid", True), ("simpo", False), (["simpo", "hinge"], True), ("kto", True)]
)
def test_an_objective_says_whether_it_needs_a_reference(loss_type, needs):
    assert build(loss_type).needs_reference is needs


def test_losses_that_sort_their_batch_say_so():
    assert [name for name in names() if build(name).couples_rows] == ["aot", "aot_unpaired"]


def test_kto_takes_single_answers():
    assert [name for name in names() if build(name).unpaired] == ["apo_zero_unpaired", "kto"]


def test_an_objective_is_plain_values_that_can_cross_processes():
    objective = build(["bco_pair", "sft"], loss_weights=[1.0, 0.1])
    assert copy.deepcopy(objective) == objective
