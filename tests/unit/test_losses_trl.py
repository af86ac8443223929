"""Every loss that TRL 1.16 has: the same value and the same gradient of every token's log-prob.

TRL's own methods are run, unbound, with a stand-in for the trainer whose model hands out given
log-probs; nothing of their arithmetic is repeated here.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from autoalign.losses import reward
from autoalign.losses.logps import KTOBatch, PairLogps, sum_answers
from autoalign.losses.preference import build

pytest.importorskip("trl", reason="TRL is what is compared with: pip install '.[bench]'")
pytestmark = pytest.mark.slow

CHOSEN, REJECTED = [3, 7, 1, 5], [6, 2, 4, 5]
LENGTHS, WIDTH = CHOSEN + REJECTED, 7
PROMPT = 2
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def same(whole):
    return whole


def trainer_stand_in(**options):
    """What TRL's loss methods read of `self`."""
    defaults = {
        "model": SimpleNamespace(training=True),
        "accelerator": SimpleNamespace(
            device=torch.device("cpu"), gather=same, gather_for_metrics=same, unwrap_model=same
        ),
        "args": SimpleNamespace(discopop_tau=0.05),
        "aux_loss_enabled": False,
        "use_weighting": False,
        "precompute_ref_logps": True,
        "f_divergence_type": "reverse_kl",
        "ld_alpha": None,
        "label_smoothing": 0.0,
        "beta": 0.1,
        "_metrics": defaultdict(lambda: defaultdict(list)),
        "_total_train_tokens": 0,
        "_tp_size": 1,
    }
    return SimpleNamespace(**{**defaults, **options})


def completion_mask(lengths):
    """(answers, PROMPT + WIDTH): 1 on the answers' tokens, padded on the right."""
    mask = torch.zeros(len(lengths), PROMPT + WIDTH, dtype=torch.long)
    for row, length in enumerate(lengths):
        mask[row, PROMPT : PROMPT + length] = 1
    return mask


def fake_model(token_logps, mask, collisions=None):
    """A model whose tokens have the log-probs `token_logps`, (tokens,), answer after answer.

    Args:
        collisions: (tokens,) log sum p^2 of the same tokens.
    """

    def forward(**_):
        zeros, inside = torch.zeros(mask[:, 1:].shape), mask[:, 1:].bool()
        grid = zeros.masked_scatter(inside, token_logps)
        squares = None if collisions is None else zeros.masked_scatter(inside, collisions)
        return SimpleNamespace(
            log_probs=grid,
            entropy=zeros,
            mean_logits=zeros,
            is_top1=zeros.bool(),
            log_sum_sq_probs=squares,
        )

    return forward


def random_batch(seed):
    """Token log-probs that want a gradient, (tokens,), and reference log-probs of the answers."""
    torch.manual_seed(seed)
    token_logps = -torch.rand(sum(LENGTHS)) * 3
    reference = sum_answers(token_logps + torch.randn(sum(LENGTHS)), LENGTHS)
    return token_logps.requires_grad_(), reference


def pairs(token_logps, reference, ld_alpha=None):
    """The same batch as `PairLogps`."""
    plain = sum_answers(token_logps, LENGTHS)
    shared = [min(pair) for pair in zip(CHOSEN, REJECTED, strict=True)] * 2
    weight = 1.0 if ld_alpha is None else ld_alpha
    summed = sum_answers(token_logps, LENGTHS, shared_lengths=shared, ld_alpha=weight)
    count = len(CHOSEN)
    return PairLogps(
        summed[:count],
        summed[count:],
        torch.tensor(CHOSEN),
        torch.tensor(REJECTED),
        reference[:count],
        reference[count:],
        chosen_unweighted=plain[:count],
    )


def value_and_gradient(loss, leaf):
    (gradient,) = torch.autograd.grad(loss, leaf)
    return loss.detach(), gradient


def trl_dpo(token_logps, reference, loss_types, collisions=None, **options):
    """DPOTrainer's loss of the batch, and the trainer's metrics."""
    from trl import DPOTrainer

    mask, count = completion_mask(LENGTHS), len(CHOSEN)
    weights = options.pop("loss_weights", [1.0] * len(loss_types))
    trainer = trainer_stand_in(loss_types=loss_types, loss_weights=weights, **options)
    inputs = {
        "input_ids": torch.ones_like(mask),
        "attention_mask": torch.ones_like(mask),
        "completion_mask": mask,
        "ref_chosen_logps": reference[:count],
        "ref_rejected_logps": reference[count:],
    }
    loss = DPOTrainer._compute_loss(trainer, fake_model(token_logps, mask, collisions), inputs, False)
    return loss, trainer._metrics["train"]


DPO_CASES = [
    ("sigmoid", {}),
    ("sigmoid", {"beta": 0.5}),
    ("sigmoid_norm", {"beta": 2.0}),
    ("hinge", {}),
    ("ipo", {}),
    ("robust", {"label_smoothing": 0.1}),
    ("exo_pair", {"label_smoothing": 1e-3}),
    ("nca_pair", {}),
    ("bco_pair", {}),
    ("sppo_hard", {}),
    ("apo_zero", {}),
    ("apo_down", {}),
    ("aot", {}),
    ("aot", {"label_smoothing": 0.2}),
    ("aot_unpaired", {"label_smoothing": 0.2}),
    ("discopop", {}),
    ("sft", {}),
]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("name", "options"), DPO_CASES)
def test_pair_losses_are_trls(name, options, seed):
    token_logps, reference = random_batch(seed)
    theirs, _ = trl_dpo(token_logps, reference, [name], **options)
    ours = build(name, **options)(pairs(token_logps, reference)).losses.mean()
    torch.testing.assert_close(
        value_and_gradient(ours, token_logps), value_and_gradient(theirs, token_logps), **CLOSE
    )


@pytest.mark.parametrize("ld_alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("loss_type", [["sigmoid"], ["ipo"], ["sigmoid", "sft"]])
def test_length_desensitised_dpo_is_trls(loss_type, ld_alpha):
    token_logps, reference = random_batch(3)
    theirs, _ = trl_dpo(token_logps, reference, loss_type, ld_alpha=ld_alpha)
    ours = build(loss_type)(pairs(token_logps, reference, ld_alpha)).losses.mean()
    torch.testing.assert_close(
        value_and_gradient(ours, token_logps), value_and_gradient(theirs, token_logps), **CLOSE
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_wpo_is_trls_weighting(seed):
    token_logps, reference = random_batch(seed)
    collisions = -torch.rand(sum(LENGTHS)) * 2
    theirs, _ = trl_dpo(token_logps, reference, ["sigmoid"], collisions, use_weighting=True)
    summed, count = sum_answers(collisions, LENGTHS), len(CHOSEN)
    batch = replace(
        pairs(token_logps, reference),
        chosen_collisions=summed[:count],
        rejected_collisions=summed[count:],
    )
    torch.testing.assert_close(
        value_and_gradient(build("wpo")(batch).losses.mean(), token_logps),
        value_and_gradient(theirs, token_logps),
        **CLOSE,
    )


def test_a_weighted_list_is_trls():
    token_logps, reference = random_batch(4)
    mixture, weights = ["sigmoid", "bco_pair", "sft"], [0.8, 0.2, 1.0]
    theirs, _ = trl_dpo(token_logps, reference, mixture, loss_weights=weights)
    ours = build(mixture, loss_weights=weights)(pairs(token_logps, reference)).losses.mean()
    torch.testing.assert_close(
        value_and_gradient(ours, token_logps), value_and_gradient(theirs, token_logps), **CLOSE
    )


def test_rpo_alpha_is_trls_sft_term():
    token_logps, reference = random_batch(5)
    theirs, _ = trl_dpo(token_logps, reference, ["sigmoid", "sft"], loss_weights=[1.0, 0.3])
    ours = build("sigmoid", rpo_alpha=0.3)(pairs(token_logps, reference)).losses.mean()
    torch.testing.assert_close(ours, theirs, **CLOSE)


def test_logged_rewards_are_trls():
    from autoalign.losses.reward_metrics import reward_metrics

    token_logps, reference = random_batch(6)
    _, logged = trl_dpo(token_logps, reference, ["sigmoid"])
    ours = reward_metrics(build("sigmoid").rewards(pairs(token_logps, reference)))
    assert {name: value.item() for name, value in ours.items()} == pytest.approx(
        {name: logged[name][0] for name in ours}, abs=1e-6
    )


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize(
    ("name", "trl_name", "options"),
    [
        ("cpo", "sigmoid", {"beta": 0.1, "cpo_alpha": 0.0}),
        ("simpo", "simpo", {"beta": 2.5, "simpo_gamma": 1.4}),
        ("sigmoid", "sigmoid", {"beta": 0.3}),
    ],
)
def test_cpo_simpo_and_smoothed_dpo_are_trls_cpo_loss(name, trl_name, options, label_smoothing):
    """CPO's loss on log-ratios in place of log-probs is cDPO, which TRL's DPO no longer smooths."""
    from trl.experimental.cpo import CPOTrainer

    token_logps, reference = random_batch(7)
    batch = pairs(token_logps, reference)
    inputs = {
        "cpo": (batch.chosen, batch.rejected),
        "simpo": (batch.chosen / batch.chosen_tokens, batch.rejected / batch.rejected_tokens),
        "sigmoid": (batch.chosen_ratio, batch.rejected_ratio),
    }[name]
    trainer = trainer_stand_in(
        alpha=0.0,
        loss_type=trl_name,
        beta=options["beta"],
        simpo_gamma=options.get("simpo_gamma"),
        label_smoothing=label_smoothing,
    )
    theirs = CPOTrainer.cpo_loss(trainer, *inputs)[0].mean()
    ours = build(name, label_smoothing=label_smoothing, **options)(batch).losses.mean()
    torch.testing.assert_close(
        value_and_gradient(ours, token_logps), value_and_gradient(theirs, token_logps), **CLOSE
    )


def answers_of_random_logits():
    """Logits that want a gradient, and a CPO/ORPO batch with one prompt token before each answer.

    One, because ORPOTrainer learns the prompt's tokens too, all but the first, which nothing predicts.
    """
    torch.manual_seed(9)
    width, vocabulary = max(LENGTHS) + 1, 5
    logits = torch.randn(len(LENGTHS), width, vocabulary, requires_grad=True)
    ids = torch.randint(vocabulary, (len(LENGTHS), width))
    place = torch.arange(width)
    mask = place <= torch.tensor(LENGTHS)[:, None]
    labels = ids.masked_fill(~mask | (place == 0), -100)
    whole = {"input_ids": ids, "attention_mask": mask.long(), "labels": labels}
    sides = [("chosen", slice(len(CHOSEN))), ("rejected", slice(len(CHOSEN), None))]
    return logits, {f"{side}_{key}": value[rows] for side, rows in sides for key, value in whole.items()}


def pairs_of_logits(logits, batch):
    """The same as `PairLogps`, from the definition of a log-prob."""
    labels = torch.cat([batch["chosen_labels"], batch["rejected_labels"]])[:, 1:]
    log_softmax = logits[:, :-1].log_softmax(-1)
    picked = log_softmax.gather(-1, labels.clamp(min=0)[..., None]).squeeze(-1)
    return pairs(picked[labels != -100], torch.zeros(len(LENGTHS)))


@pytest.mark.parametrize(
    ("loss_type", "weights", "trl_options"),
    [
        ("cpo", None, {"loss_type": "sigmoid", "cpo_alpha": 1.0}),
        ("simpo", None, {"loss_type": "simpo", "cpo_alpha": 0.0}),
        (["simpo", "sft"], [1.0, 0.5], {"loss_type": "simpo", "cpo_alpha": 0.5}),
        ("orpo", None, {}),
    ],
)
def test_reference_free_losses_are_trls(loss_type, weights, trl_options):
    from trl.experimental.cpo import CPOTrainer
    from trl.experimental.orpo import ORPOTrainer

    logits, batch = answers_of_random_logits()
    trainer = object.__new__(ORPOTrainer if loss_type == "orpo" else CPOTrainer)
    options = {"is_encoder_decoder": False, "pad_token_id": 0, "padding_value": 0, "beta": 0.7}
    trainer.__dict__.update(vars(trainer_stand_in(alpha=0.0, simpo_gamma=0.5, **options, **trl_options)))
    theirs, _ = trainer.get_batch_loss_metrics(lambda *_, **__: SimpleNamespace(logits=logits), batch)
    settings = {"beta": 0.7, "simpo_gamma": 0.5 if "simpo" in loss_type else None}
    objective = build(loss_type, loss_weights=weights, **settings)
    ours = objective(pairs_of_logits(logits, batch)).losses.mean()
    torch.testing.assert_close(value_and_gradient(ours, logits), value_and_gradient(theirs, logits), **CLOSE)


def trl_kto(token_logps, reference, labels, kl_logps, kl_reference, **options):
    """KTOTrainer's loss, with the mismatched answers' log-probs given."""
    from trl import KTOTrainer

    mask = completion_mask(LENGTHS)
    trainer = trainer_stand_in(calculate_KL=True, _compute_kl_logps=lambda model, batch: kl_logps, **options)
    inputs = {
        "input_ids": torch.ones_like(mask),
        "attention_mask": torch.ones_like(mask),
        "completion_mask": mask,
        "label": labels,
        "ref_logps": reference,
        "ref_KL_logps": kl_reference,
    }
    return KTOTrainer._compute_loss(trainer, fake_model(token_logps, mask), inputs, False)


@pytest.mark.parametrize("kl_shift", [2.0, -2.0])
@pytest.mark.parametrize("name", ["kto", "apo_zero_unpaired"])
def test_unpaired_losses_are_trls(name, kl_shift):
    token_logps, reference = random_batch(10)
    labels = torch.tensor([True, False, True, True, False, True, False, False])
    kl_logps, kl_reference = torch.randn(8) - 20 + kl_shift, torch.randn(8) - 20
    weights = {"desirable_weight": 1.5, "undesirable_weight": 0.5}
    theirs = trl_kto(token_logps, reference, labels, kl_logps, kl_reference, loss_type=name, **weights)
    kl = (kl_logps - kl_reference).mean()
    batch = KTOBatch(sum_answers(token_logps, LENGTHS), reference, labels, kl)
    ours = build(name, **weights)(batch).losses.mean()
    torch.testing.assert_close(
        value_and_gradient(ours, token_logps), value_and_gradient(theirs, token_logps), **CLOSE
    )


@pytest.mark.parametrize("margin", [None, torch.tensor([0.5, 0.0, 2.0, 1.0])])
@pytest.mark.parametrize("centring", [0.0, 0.01])
def test_the_reward_models_loss_is_trls(margin, centring):
    from trl import RewardTrainer

    torch.manual_seed(11)
    scores = torch.randn(8, 1).requires_grad_()
    trainer = trainer_stand_in(args=SimpleNamespace(center_rewards_coefficient=centring or None))
    inputs = {"attention_mask": torch.ones(8, 1)} | ({} if margin is None else {"margin": margin})
    theirs = RewardTrainer.compute_loss(trainer, lambda **_: SimpleNamespace(logits=scores), inputs)
    chosen, rejected = scores.squeeze(-1).chunk(2)
    ours = reward.loss(chosen, rejected, reward.Options(centring), margin).mean()
    torch.testing.assert_close(value_and_gradient(ours, scores), value_and_gradient(theirs, scores), **CLOSE)
