"""Plain PyTorch: float32 master weights, gradients summed in float32, one all-reduce a step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn

from autoalign.config.train import TrainConfig
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
from autoalign.training.schedule import parameter_groups
from autoalign.training.supervised import SupervisedModel
from autoalign.training.world import World

_BUCKET_NUMEL = 32 << 20


class PlainEngine:
    """One model replica a rank (data parallel)."""

    def __init__(self, module: SupervisedModel, config: TrainConfig, world: World) -> None:
        self.module = module.to(world.device)
        self._world = world
        self._kept_activations = kept_activations(config, module, world.device)
        self._max_norm = config.max_grad_norm or float("inf")
        groups = parameter_groups(module, config.weight_decay)
        self._masters = {
            parameter: _master_of(parameter) for group in groups for parameter in group["params"]
        }
        for group in groups:
            group["params"] = [self._masters[parameter] for parameter in group["params"]]
        self._optimizer = torch.optim.AdamW(
            groups,
            lr=config.learning_rate,
            betas=(config.adam_beta1, config.adam_beta2),
            eps=config.adam_epsilon,
            fused=True,
        )

    def train_step(
        self, batches: Iterable[Batch], denominator: float, lr: float, accept: Accept = accept_all
    ) -> StepResult:
        loss_sum, micro_batches = 0.0, 0
        for batch in batches:
            self._collect_gradients()
            with self._kept_activations():
                loss = self.module(batch.to(self._world.device))
            (loss / denominator).backward()
            loss_sum += float(loss.detach())
            micro_batches += 1
        if micro_batches > 1 or self._world.size > 1:
            self._collect_gradients()
        self._all_reduce()
        grad_norm = self._grad_norm()
        if accept(loss_sum, grad_norm):
            self._update(lr, min(1.0, self._max_norm / (grad_norm + 1e-6)))
        self._drop_gradients(self._masters)
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
            master = self._masters[parameter]
            yield f"{name}:{MASTER}", master.detach()
            # AdamW has none for a weight that never had a gradient, such as an unused vision tower's.
            moments = self._optimizer.state.get(master, {})
            for key in (MOMENT, VARIANCE):
                yield f"{name}:{key}", moments[key] if key in moments else torch.zeros_like(master.detach())

    def load_state(self, tensors: Mapping[str, Tensor], step: int) -> None:
        for name, parameter in self._trainable():
            master = self._masters[parameter]
            with torch.no_grad():
                master.copy_(tensors[f"{name}:{MASTER}"])
            self._optimizer.state[master] = {
                "step": torch.tensor(float(step), device=master.device),
                **{key: tensors[f"{name}:{key}"].to(master.device) for key in (MOMENT, VARIANCE)},
            }
        self._publish(self._masters)

    def _trainable(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((n, p) for n, p in self.module.model.named_parameters() if p.requires_grad)

    def _collect_gradients(self) -> None:
        """Add low-precision gradients to the masters' float32 ones, and free them.

        Those of a single micro-batch stay as they are where no other rank's are added to them: `_update`
        then holds few of them in float32 at a time.
        """
        for parameter, master in self._masters.items():
            if master is parameter or parameter.grad is None:
                continue
            gradient = parameter.grad.float()
            master.grad = gradient if master.grad is None else master.grad.add_(gradient)
            parameter.grad = None

    @torch.no_grad()
    def _grad_norm(self) -> float:
        norms = [
            torch.linalg.vector_norm(gradient, dtype=torch.float32)
            for pair in self._masters.items()
            if (gradient := _gradient_of(*pair)) is not None
        ]
        return float(torch.linalg.vector_norm(torch.stack(norms))) if norms else 0.0

    @torch.no_grad()
    def _update(self, lr: float, scale: float) -> None:
        """One step of the optimizer on scaled gradients, some weights at a time."""
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        gradients = {
            parameter: _gradient_of(parameter, master) for parameter, master in self._masters.items()
        }
        self._drop_gradients(self._masters)
        for parameters in _in_buckets(self._masters):
            for parameter in parameters:
                if (gradient := gradients.pop(parameter)) is not None:
                    self._masters[parameter].grad = gradient.float().mul_(scale)
            self._optimizer.step()
            self._publish(parameters)
            self._drop_gradients(parameters)

    def _drop_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        for parameter in parameters:
            parameter.grad = self._masters[parameter].grad = None

    def _all_reduce(self) -> None:
        """Sum gradients over ranks, in buckets; a weight that has none on any rank is left without."""
        if self._world.size == 1:
            return
        bucket: list[Tensor] = []
        for master in self._masters_with_gradients():
            if master.grad is None:
                master.grad = torch.zeros_like(master)
            bucket.append(master.grad)
            if sum(gradient.numel() for gradient in bucket) >= _BUCKET_NUMEL:
                _reduce_bucket(bucket)
                bucket = []
        if bucket:
            _reduce_bucket(bucket)

    def _masters_with_gradients(self) -> list[nn.Parameter]:
        """Those that have one on some rank: given zeros, weight decay would shrink the others."""
        masters = list(self._masters.values())
        held = [float(master.grad is not None) for master in masters]
        counts = torch.tensor(held, device=self._world.device)
        dist.all_reduce(counts)
        return [master for master, count in zip(masters, counts.tolist(), strict=True) if count]

    @torch.no_grad()
    def _publish(self, parameters: Iterable[nn.Parameter]) -> None:
        """Round the masters to the model's type."""
        for parameter in parameters:
            if (master := self._masters[parameter]) is not parameter:
                parameter.copy_(master)


def _gradient_of(parameter: nn.Parameter, master: nn.Parameter) -> Tensor | None:
    return parameter.grad if master.grad is None else master.grad


def _in_buckets(parameters: Iterable[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Parameters in turn, so many at a time that their float32 gradients stay small."""
    bucket: list[nn.Parameter] = []
    for parameter in parameters:
        bucket.append(parameter)
        if sum(held.numel() for held in bucket) >= _BUCKET_NUMEL:
            yield bucket
            bucket = []
    if bucket:
        yield bucket


def _master_of(parameter: nn.Parameter) -> nn.Parameter:
    if parameter.dtype == torch.float32:
        return parameter
    return nn.Parameter(parameter.detach().float().clone())


def _reduce_bucket(bucket: list[Tensor]) -> None:
    flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
    dist.all_reduce(flat)
    parts = flat.split([gradient.numel() for gradient in bucket])
    for gradient, part in zip(bucket, parts, strict=True):
        gradient.copy_(part.view_as(gradient))
