"""Plain PyTorch: float32 masters (split_adamw.py), gradients summed in float32, one all-reduce a step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn

from autoalign.config.train import TrainConfig
from autoalign.losses.summing import added, parts
from autoalign.training.acceleration.offload import kept_activations
from autoalign.training.batches import Batch
from autoalign.training.engines.base import (
    MASTER,
    MOMENT,
    VARIANCE,
    Accept,
    StepResult,
    accept_all,
    whole_weights,
)
from autoalign.training.engines.split_adamw import SplitAdamW
from autoalign.training.schedule import parameter_groups
from autoalign.training.supervised import SupervisedModel
from autoalign.training.world import World

_BUCKET_NUMEL = 32 << 20
_NORM_NUMEL = 4 << 20
"""Of a gradient, as many at a time: the norm takes a float32 copy of a bfloat16 one."""


class PlainEngine:
    """One model replica a rank (data parallel)."""

    def __init__(self, module: SupervisedModel, config: TrainConfig, world: World) -> None:
        self.module = module.to(world.device)
        self._world = world
        self._kept_activations = kept_activations(config, module, world.device)
        self._max_norm = config.max_grad_norm or float("inf")
        self._optimizer = SplitAdamW(
            parameter_groups(module, config.weight_decay),
            betas=(config.adam_beta1, config.adam_beta2),
            epsilon=config.adam_epsilon,
        )
        self._sums: dict[nn.Parameter, Tensor] = {}
        """Float32 gradients of bfloat16 parameters, where there is more than one to add up."""

    def train_step(
        self, batches: Iterable[Batch], denominator: float, lr: float, accept: Accept = accept_all
    ) -> StepResult:
        loss_sum, micro_batches = 0.0, 0
        for batch in batches:
            self._sum_gradients()
            with self._kept_activations():
                loss = self.module(batch.to(self._world.device))
            (loss / denominator).backward()
            loss_sum += float(loss.detach())
            micro_batches += 1
        if micro_batches > 1 or self._world.size > 1:
            self._sum_gradients()
        self._all_reduce()
        gradients = self._gradients()
        grad_norm = _norm(gradients.values())
        if accept(loss_sum, grad_norm):
            self._optimizer.update(gradients, lr, min(1.0, self._max_norm / (grad_norm + 1e-6)))
        return StepResult(loss_sum, grad_norm)

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> float:
        self.module.eval()
        loss = float(self.module(batch.to(self._world.device)))
        self.module.train()
        return loss

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        yield from whole_weights(self.module.model)

    def state(self) -> Iterator[tuple[str, Tensor]]:
        for name, parameter in self._trainable():
            for key, value in self._optimizer.state(parameter):
                yield f"{name}:{key}", value

    def load_state(self, tensors: Mapping[str, Tensor], step: int) -> None:
        for name, parameter in self._trainable():
            state = {key: tensors[f"{name}:{key}"] for key in (MASTER, MOMENT, VARIANCE)}
            self._optimizer.load(parameter, state, step)

    def _trainable(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((n, p) for n, p in self.module.model.named_parameters() if p.requires_grad)

    def _sum_gradients(self) -> None:
        """Add bfloat16 gradients to float32 ones, and free them.

        Those of a single micro-batch stay as they are where no other rank's are added to them.
        """
        for parameter in self._optimizer.parameters:
            if parameter.grad is None or parameter.dtype == torch.float32:
                continue
            self._sums[parameter] = added(self._sums.get(parameter), parameter.grad)
            parameter.grad = None

    def _gradients(self) -> dict[nn.Parameter, Tensor]:
        """The gradient of each parameter that has one; they are held here alone from now on."""
        found: dict[nn.Parameter, Tensor] = {}
        for parameter in self._optimizer.parameters:
            gradient = self._sums.pop(parameter, parameter.grad)
            parameter.grad = None
            if gradient is not None:
                found[parameter] = gradient
        return found

    def _all_reduce(self) -> None:
        """Sum gradients over ranks, in buckets; a weight that has none on any rank is left without."""
        if self._world.size == 1:
            return
        bucket: list[Tensor] = []
        for parameter in self._with_gradients_somewhere():
            bucket.append(self._own_gradient(parameter))
            if sum(gradient.numel() for gradient in bucket) >= _BUCKET_NUMEL:
                _reduce_bucket(bucket)
                bucket = []
        if bucket:
            _reduce_bucket(bucket)

    def _with_gradients_somewhere(self) -> list[nn.Parameter]:
        """Those that have one on some rank: given zeros, weight decay would shrink the others."""
        parameters = list(self._optimizer.parameters)
        held = [float(p in self._sums or p.grad is not None) for p in parameters]
        counts = torch.tensor(held, device=self._world.device)
        dist.all_reduce(counts)
        return [parameter for parameter, count in zip(parameters, counts.tolist(), strict=True) if count]

    def _own_gradient(self, parameter: nn.Parameter) -> Tensor:
        """This rank's, float32; zeros where it has none."""
        if parameter.dtype != torch.float32:
            if parameter not in self._sums:
                self._sums[parameter] = torch.zeros_like(parameter, dtype=torch.float32)
            return self._sums[parameter]
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        return parameter.grad


@torch.no_grad()
def _norm(gradients: Iterable[Tensor]) -> float:
    """L2 norm of all of them together, summed in float32."""
    norms = [
        torch.linalg.vector_norm(part, dtype=torch.float32)
        for gradient in gradients
        for (part,) in parts([gradient], _NORM_NUMEL)
    ]
    return float(torch.linalg.vector_norm(torch.stack(norms))) if norms else 0.0


def _reduce_bucket(bucket: list[Tensor]) -> None:
    flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
    dist.all_reduce(flat)
    parts = flat.split([gradient.numel() for gradient in bucket])
    for gradient, part in zip(bucket, parts, strict=True):
        gradient.copy_(part.view_as(gradient))
