"""From groups of answers to rows that a step learns from, with a scripted sampler in the engine's place."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from autoalign.config.grpo import GRPOConfig  # noqa: E402
from autoalign.errors import ConfigError  # noqa: E402
from autoalign.reinforcement.figures import describe  # noqa: E402
from autoalign.reinforcement.group import Groups, rows_of  # noqa: E402
from autoalign.reinforcement.handover import merged  # noqa: E402
from autoalign.reinforcement.rewards import Rewards  # noqa: E402
from autoalign.reinforcement.rows import RolloutRows  # noqa: E402
from autoalign.sampling.engines.base import Completion  # noqa: E402
from autoalign.sampling.prompts import Prompt  # noqa: E402
from autoalign.training.examples import Layout  # noqa: E402

LAYOUT = Layout(padding_free=True, pad_token_id=0)


def config(**keys: Any) -> GRPOConfig:
    job = {"model_name_or_path": "m", "data_path": ["d"], "output_dir": "o", "num_generations": 2, **keys}
    return GRPOConfig.build({"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, **job})


def prompt(name: str, *ids: int, **extra: Any) -> Prompt:
    return Prompt(0, name, ({"role": "user", "content": name},), ids, extra=extra)


def answer(*ids: int, reason: str = "stop", logps: tuple[float, ...] | None = None) -> Completion:
    told = logps or tuple(-float(token) for token in ids)
    return Completion("so 4", reason, 2, len(ids), told, ids)


def groups(*scores: float, answers: list[Completion | None] | None = None) -> Groups:
    """Two prompts of two tokens, two answers each."""
    given = [prompt("a", 1, 2), prompt("a", 1, 2), prompt("b", 3, 4), prompt("b", 3, 4)]
    found = answers or [answer(5, 6), answer(7), answer(8), answer(9, 9, 9)]
    return Groups(given, found, torch.tensor(scores, dtype=torch.float32)[:, None], 2)


def test_a_group_of_equal_rewards_is_counted_and_not_worked_on() -> None:
    made = rows_of(groups(1, 0, 1, 1), [1.0], config())
    assert made.flat_share == 0.5
    assert made.rows.learned == [0, 1]
    assert made.rows.divisor([0, 1]) == 2 + 1 + 1 + 3  # dapo: the tokens of all four


def test_with_a_reference_every_answer_is_pulled_to_it() -> None:
    assert rows_of(groups(1, 0, 1, 1), [1.0], config(beta=0.1)).rows.learned == [0, 1, 2, 3]


def test_an_answer_that_failed_has_no_tokens_and_no_part_in_its_group() -> None:
    answers = [answer(5, 6), None, answer(8), answer(9)]
    made = rows_of(groups(1, math.nan, 1, 0, answers=answers), [1.0], config(scale_rewards="none"))
    assert made.rows.learned == [2, 3]
    assert made.rows.advantages.tolist() == [0, 0, 0.5, -0.5]
    assert made.rows.lengths == [4, 2, 3, 3]


def test_truncated_answers_can_be_left_out() -> None:
    answers = [answer(5, 6, reason="length"), answer(7), answer(8), answer(9)]
    made = rows_of(groups(1, 0, 1, 0, answers=answers), [1.0], config(mask_truncated_completions=True))
    assert made.rows.learned == [1, 2, 3]
    assert made.rows.divisor([]) == 3


def test_a_batch_holds_the_answers_with_advantages_and_the_engines_log_probs() -> None:
    rows = rows_of(groups(1, 0, 0, 1), [1.0], config(scale_rewards="none")).rows
    batch = rows.batch([0, 3], LAYOUT, [])
    assert batch.input_ids.tolist() == [[1, 2, 5, 6, 3, 4, 9, 9, 9]]
    assert batch.targets.tolist() == [5, 6, 9, 9, 9]
    assert batch.predict_from.tolist() == [1, 2, 5, 6, 7]
    assert batch.advantages.tolist() == [0.5, 0.5]
    assert batch.engine_logps.tolist() == [-5, -6, -9, -9, -9]
    assert batch.old_logps is None


def test_rows_travel_between_ranks_as_they_are() -> None:
    rows = rows_of(groups(1, 0, 0, 1), [1.0], config()).rows
    back = RolloutRows.loads(rows.dumps())
    assert back.lengths == rows.lengths and back.learned == rows.learned
    assert back.batch([1], LAYOUT, []).engine_logps.tolist() == [-7]


def test_old_log_probs_are_those_of_their_rows() -> None:
    rows = rows_of(groups(1, 0, 0, 1), [1.0], config()).rows
    known = rows.with_old_logps(
        [(3, torch.tensor([-1.0, -2, -3]).numpy()), (1, torch.tensor([-4.0]).numpy())]
    )
    assert known.batch([1, 3], LAYOUT, []).old_logps.tolist() == [-4, -1, -2, -3]


def test_transformers_log_probs_say_nothing_about_another_temperature() -> None:
    rows = rows_of(groups(1, 0, 0, 1), [1.0], config(backend="hf", temperature=0.7)).rows
    assert all(math.isnan(value) for value in rows.engine_logps.tolist())


def test_rewards_are_weighed_and_one_without_a_reference_counts_as_missing() -> None:
    job = config(reward=["numeric", "length"], reward_weights=[1.0, 0.1], reward_options={"unit": "words"})
    rewards = Rewards(job)
    scores = rewards.of(
        [prompt("a", 1, reference="4"), prompt("b", 1), prompt("c", 1)], ["so 4", "so 4", None]
    )
    assert scores[0].tolist() == [1, 2]
    assert math.isnan(scores[1][0]) and scores[1][1] == 2
    assert scores[2].isnan().all()
    figures = describe(rewards, scores, [answer(1, 2), answer(3, reason="length"), None])
    assert figures["reward"] == pytest.approx((1.2 + 0.2) / 2)
    assert figures["completions/mean_length"] == 1.5
    assert figures["completions/clipped_ratio"] == 0.5
    assert figures["completions/unscored_ratio"] == pytest.approx(1 / 3)


def test_a_reward_that_can_score_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="numeric can't score answers to these prompts: no reference"):
        Rewards(config()).require_references([prompt("a", 1)])


def test_an_adapter_is_added_to_its_base() -> None:
    """W + BA * 2 for W = [[1, 1], [1, 1]], B = [1, 2], A = [3, 4]."""
    stem = "base_model.model.model.layers.0.q_proj"
    found = merged(
        {
            f"{stem}.base_layer.weight": torch.ones(2, 2),
            f"{stem}.lora_A.default.weight": torch.tensor([[3.0, 4.0]]),
            f"{stem}.lora_B.default.weight": torch.tensor([[1.0], [2.0]]),
            "base_model.model.model.norm.weight": torch.ones(2),
        },
        2.0,
    )
    assert {name: tensor.tolist() for name, tensor in found.items()} == {
        "model.layers.0.q_proj.weight": [[7, 9], [13, 17]],
        "model.norm.weight": [1, 1],
    }


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"num_generations": 3}, "has to divide a step's answers"),
        ({"num_iterations": 2, "save_steps": 3}, "multiple of 'num_iterations'"),
        ({"reward": ["numeric", "length"], "reward_weights": [1.0]}, "one a reward is expected, 2, not 1"),
        ({"reward_options": {"longst": 3}}, "did you mean 'longest'"),
        ({"packing": True}, "'packing' is not for grpo"),
        ({"loss_type": "bnpo", "max_tokens_per_batch": 64}, "use dapo"),
    ],
)
def test_a_wrong_config_says_what_is_wrong(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**keys)


def test_a_flag_gives_options_as_yaml(tmp_path: Path) -> None:
    assert config(reward_options="{unit: words, longest: 20}").scoring.longest == 20
