"""What the loop asks of an engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

from torch import Tensor, nn

from autoalign.training.batches import Batch
from autoalign.training.supervised import SupervisedModel

MASTER, MOMENT, VARIANCE = "master", "exp_avg", "exp_avg_sq"


Accept = Callable[[float, float], bool]
"""(this rank's summed loss, norm of the global gradient) to whether to update. All ranks take part."""


def accept_all(loss_sum: float, grad_norm: float) -> bool:
    """Make every update."""
    return True


class StepResult(NamedTuple):
    """What one optimizer step saw on this rank."""

    loss_sum: float
    """Summed loss over this rank's micro-batches."""
    grad_norm: float
    """Norm of the global gradient before clipping."""


def whole_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """A model's parameters and persistent buffers, a tied one once, under its first name."""
    yield from model.named_parameters()
    for prefix, module in model.named_modules():
        for name, buffer in module.named_buffers(prefix, recurse=False):
            if name.rsplit(".", 1)[-1] not in module._non_persistent_buffers_set:
                yield name, buffer


class Engine(Protocol):
    """Forward, backward and update, and the state behind them."""

    module: SupervisedModel

    def train_step(
        self, batches: Iterable[Batch], denominator: float, lr: float, accept: Accept = accept_all
    ) -> StepResult:
        """Minimise (sum of all ranks' losses) / denominator by one optimizer step.

        Where `accept` says no, weights and optimizer stay as they are.
        """

    def evaluate(self, batch: Batch) -> float:
        """Summed loss of a batch, without gradients."""

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Every weight and persistent buffer, whole, by its name in the model. All ranks take part."""

    def state(self) -> Iterator[tuple[str, Tensor]]:
        """`PARAMETER:master|exp_avg|exp_avg_sq`, whole and float32. All ranks take part."""

    def load_state(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Take over what `state` gave after `step` optimizer steps, at any number of workers."""
