"""A worker without rows runs the reference too: under ZeRO-3 the others wait for it to gather the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from autoalign.config.dpo import DPOConfig  # noqa: E402
from autoalign.config.grpo import GRPOConfig  # noqa: E402
from autoalign.reinforcement.objective import GRPOModel  # noqa: E402
from autoalign.training.batches import collate  # noqa: E402
from autoalign.training.preference import PreferenceModel  # noqa: E402
from autoalign.training.unpaired import UnpairedModel  # noqa: E402

EMPTY = collate([], padding_free=True)


class Counted(nn.Module):
    """A model of one token's logits that counts its forward passes."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(1, 1, 4))
        self.passes = 0

    def get_output_embeddings(self) -> None:
        """It has no layer of its own for them."""

    def forward(self, logits_to_keep: Any, **_: Any) -> Any:
        self.passes += 1
        return SimpleNamespace(logits=self.logits[:, logits_to_keep])


class WithAdapter(Counted):
    """The same, whose adapter can be switched off."""

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
        yield


def config(**values: Any) -> DPOConfig:
    return DPOConfig(model_name_or_path="m", data_path=["d"], output_dir="o", **values)


@pytest.mark.parametrize(
    ("kind", "values", "passes"),
    [
        (PreferenceModel, {"loss_type": ["sigmoid"]}, 1),
        (PreferenceModel, {"loss_type": ["sigmoid"], "ld_alpha": 0.5}, 1),
        (PreferenceModel, {"loss_type": ["simpo"]}, 0),  # it has no reference
        (UnpairedModel, {"loss_type": ["kto"]}, 1),
    ],
)
def test_a_kept_reference_runs_once(kind: Any, values: dict[str, Any], passes: int):
    policy, frozen = Counted(), Counted()
    loss = kind(policy, config(**values), frozen=frozen)(EMPTY)
    assert (policy.passes, frozen.passes) == (1, passes)
    loss.backward()
    assert loss.item() == 0
    assert policy.logits.grad is not None and not policy.logits.grad.any()


@pytest.mark.parametrize(("kind", "loss"), [(PreferenceModel, "sigmoid"), (UnpairedModel, "kto")])
def test_with_an_adapter_the_base_runs_again(kind: Any, loss: str):
    policy = WithAdapter()
    kind(policy, config(loss_type=[loss]))(EMPTY)
    assert policy.passes == 2


@pytest.mark.parametrize(("kind", "loss"), [(PreferenceModel, "sigmoid"), (UnpairedModel, "kto")])
def test_with_log_probs_from_the_cache_nothing_more_runs(kind: Any, loss: str):
    policy = WithAdapter()
    kind(policy, config(loss_type=[loss]))(replace(EMPTY, ref_logps=torch.zeros(0)))
    assert policy.passes == 1


@pytest.mark.parametrize(("beta", "passes"), [(0.1, 1), (0.0, 0)])
def test_grpos_reference_runs_once_where_there_is_a_penalty(beta: float, passes: int):
    values = {"model_name_or_path": "m", "data_path": ["d"], "output_dir": "o", "reward": ["numeric"]}
    policy, frozen = Counted(), Counted()
    GRPOModel(policy, GRPOConfig(**values, beta=beta), frozen=frozen)(EMPTY)
    assert (policy.passes, frozen.passes) == (1, passes)
