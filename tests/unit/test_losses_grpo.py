"""GRPO's objective and advantages: arithmetic by hand, and TRL 1.16's GRPOTrainer to 1e-5."""

from __future__ import annotations

import math
from collections import defaultdict
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from autoalign.losses import grpo  # noqa: E402
from autoalign.losses.advantages import advantages, combined  # noqa: E402

LENGTHS, WIDTH, PROMPT = [3, 7, 1, 5], 8, 2
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def answers(**options):
    """Two answers of two tokens and one, advantages 1 and -1."""
    logps = torch.log(torch.tensor([0.5, 0.25, 0.5]))
    return grpo.AnswerBatch(logps, [2, 1], torch.tensor([1.0, -1.0]), **options)


def test_on_policy_the_ratio_is_one_and_the_loss_the_negative_advantage():
    """Answer means -1 and 1: 0; token sum -1 - 1 + 1 = -1."""
    assert grpo.loss(answers(), grpo.Options("grpo")).loss.item() == 0
    assert grpo.loss(answers(), grpo.Options("dapo")).loss.item() == -1
    assert grpo.loss(answers(), grpo.Options("bnpo")).loss.item() == pytest.approx(-1 / 3)


def test_a_ratio_is_clipped_on_the_side_where_it_would_gain():
    """Ratios 2, 0.5 (advantage 1) and 2 (advantage -1): min(2, 1.2), min(0.5, 0.8), min(-2, -1.2)."""
    old = torch.log(torch.tensor([0.25, 0.5, 0.25]))
    outcome = grpo.loss(answers(old_logps=old), grpo.Options("dapo"))
    assert outcome.loss.item() == pytest.approx(-(1.2 + 0.5 - 2))
    assert outcome.clip_ratio.item() == pytest.approx(1 / 3)


def test_an_upper_bound_of_its_own():
    old = torch.log(torch.tensor([0.25, 0.25, 0.5]))
    outcome = grpo.loss(answers(old_logps=old), grpo.Options("dapo", epsilon_high=0.5))
    assert outcome.loss.item() == pytest.approx(-(1.5 + 1 - 1))


def test_kl_is_the_k3_estimate():
    """Reference probabilities twice, once, half the policy's: r - log r - 1 = 1 - ln 2, 0, ln 2 - 1/2."""
    ref = torch.log(torch.tensor([1.0, 0.25, 0.25]))
    kls = 1 - math.log(2) + math.log(2) - 0.5
    outcome = grpo.loss(answers(ref_logps=ref), grpo.Options("dapo", beta=0.1))
    assert outcome.kl.item() == pytest.approx(kls / 3)
    assert outcome.loss.item() == pytest.approx(-1 + 0.1 * kls)


def test_the_engines_probabilities_weigh_tokens_up_to_the_cap():
    trainer, engine = torch.log(torch.tensor([0.5, 0.5, 0.5])), torch.tensor([0.25, 0.1, math.nan])
    weights = grpo.importance_weights(trainer, torch.log(engine), cap=3.0)
    assert weights.tolist() == pytest.approx([2, 3, 1])


def test_divisors():
    options = {
        name: grpo.Options(name, max_completion_length=10) for name in ("grpo", "dapo", "bnpo", "dr_grpo")
    }
    found = {name: grpo.divisor(each, 8, 50, 2) for name, each in options.items()}
    assert found == {"grpo": 8, "dapo": 50, "bnpo": 2, "dr_grpo": 80}


def test_advantages_by_hand():
    """Rewards 1, 0, 0, 0: mean 1/4, sample deviation 1/2."""
    found = advantages(torch.tensor([[1.0, 0, 0, 0], [2.0, 2, 2, 2]]))
    assert found.values.tolist()[0] == pytest.approx([1.5, -0.5, -0.5, -0.5], abs=1e-3)
    assert found.values.tolist()[1] == [0, 0, 0, 0]
    assert found.is_flat.tolist() == [False, True]


def test_an_answer_without_a_reward_is_left_out_of_the_group():
    found = advantages(torch.tensor([[1.0, 0.0, math.nan]]), "none")
    assert found.values.tolist() == [[0.5, -0.5, 0.0]]


def test_rewards_are_summed_by_weight():
    scores = torch.tensor([[1.0, 0.5], [math.nan, 1.0], [math.nan, math.nan]])
    assert combined(scores, [1.0, 2.0]).tolist()[:2] == [2, 2]
    assert combined(scores, [1.0, 2.0])[2].isnan()


# TRL's own method is run, unbound, with a stand-in for the trainer; nothing of it is repeated here.


def random_batch(seed):
    torch.manual_seed(seed)
    count = sum(LENGTHS)
    logps = (-torch.rand(count) * 3).requires_grad_()
    old, ref = logps.detach() + torch.randn(count) * 0.3, logps.detach() + torch.randn(count) * 0.3
    return logps, old, ref, torch.rand(count) + 0.5, torch.randn(len(LENGTHS))


def grid(values):
    """(answers, WIDTH), padded on the right with zeros."""
    mask = torch.arange(WIDTH) < torch.tensor(LENGTHS)[:, None]
    return torch.zeros(mask.shape).masked_scatter(mask, values), mask.long()


def trl_loss(batch, options, steps=1):
    trl = pytest.importorskip("trl", reason="TRL is what is compared with: pip install '.[bench]'")
    logps, old, ref, weights, values = batch
    per_token, mask = grid(logps)
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=True),
        accelerator=SimpleNamespace(
            num_processes=1, reduce=lambda x, **_: x, gather=lambda x: x, gather_for_metrics=lambda x: x
        ),
        args=SimpleNamespace(use_bias_correction_kl=False, delta=None, steps_per_generation=steps),
        _get_per_token_logps_and_entropies=lambda *_, **__: (per_token, torch.zeros_like(per_token), None),
        _metrics=defaultdict(lambda: defaultdict(list)),
        _entropy_bonus_enabled=False,
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        use_vllm=True,
        vllm_importance_sampling_correction=True,
        current_gradient_accumulation_steps=steps,
        importance_sampling_level=options.importance_sampling_level,
        beta=options.beta,
        loss_type=options.loss_type,
        epsilon_low=options.epsilon,
        epsilon_high=options.epsilon_high or options.epsilon,
        max_completion_length=options.max_completion_length,
    )
    ids = torch.zeros(len(LENGTHS), PROMPT, dtype=torch.long)
    inputs = {
        "prompt_ids": ids,
        "prompt_mask": torch.ones_like(ids),
        "completion_ids": mask,
        "completion_mask": mask,
        "advantages": values,
        "old_per_token_logps": grid(old)[0],
        "ref_per_token_logps": grid(ref)[0],
        "importance_sampling_ratio": grid(weights)[0],
        "num_items_in_batch": mask.sum(),
    }
    return trl.GRPOTrainer._compute_loss(trainer, None, inputs), trainer._metrics["train"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("beta", [0.0, 0.04])
@pytest.mark.parametrize("loss_type", ["grpo", "dapo", "bnpo", "dr_grpo"])
def test_value_gradient_and_figures_are_trls(loss_type, beta, level, seed):
    options = grpo.Options(loss_type, 0.1, 0.3, beta, level, max_completion_length=11)
    logps, old, ref, weights, values = batch = random_batch(seed)
    theirs, logged = trl_loss(batch, options)
    outcome = grpo.loss(grpo.AnswerBatch(logps, LENGTHS, values, old, ref, weights), options)
    ours = outcome.loss / grpo.divisor(options, len(LENGTHS), sum(LENGTHS), 1)
    torch.testing.assert_close(
        (ours, *torch.autograd.grad(ours, logps)), (theirs, *torch.autograd.grad(theirs, logps)), **CLOSE
    )
    if level == "token":
        assert outcome.clip_ratio.item() == pytest.approx(logged["clip_ratio/region_mean"][0], abs=1e-6)
    if beta:
        assert outcome.kl.item() == pytest.approx(logged["kl"][0], abs=1e-6)


@pytest.mark.parametrize("loss_type", ["grpo", "dapo", "dr_grpo"])
def test_two_micro_batches_add_up_to_one(loss_type):
    """The first two and the last two answers."""
    options = grpo.Options(loss_type, beta=0.04, max_completion_length=11)
    logps, old, ref, weights, values = random_batch(3)
    cut = sum(LENGTHS[:2])
    parts = [
        grpo.loss(
            grpo.AnswerBatch(
                logps[tokens], LENGTHS[rows], values[rows], old[tokens], ref[tokens], weights[tokens]
            ),
            options,
        ).loss
        for tokens, rows in ((slice(cut), slice(2)), (slice(cut, None), slice(2, None)))
    ]
    whole = grpo.loss(grpo.AnswerBatch(logps, LENGTHS, values, old, ref, weights), options).loss
    torch.testing.assert_close(parts[0] + parts[1], whole, **CLOSE)
