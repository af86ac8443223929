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
        loss_sum = 0.0
        for batch in batches:
            with self._kept_activations():
                loss = self.module(batch.to(self._world.device))
            (loss / denominator).backward()
            self._collect_gradients()
            loss_sum += float(loss.detach())
        self._all_reduce()
        masters = list(self._masters.values())
        grad_norm = float(nn.utils.clip_grad_norm_(masters, self._max_norm))
        if accept(loss_sum, grad_norm):
            for group in self._optimizer.param_groups:
                group["lr"] = lr
            self._optimizer.step()
            self._publish()
        self._optimizer.zero_grad(set_to_none=True)
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
            for key in (MOMENT, VARIANCE):
                yield f"{name}:{key}", self._optimizer.state[master][key]

    def load_state(self, tensors: Mapping[str, Tensor], step: int) -> None:
        for name, parameter in self._trainable():
            master = self._masters[parameter]
            with torch.no_grad():
                master.copy_(tensors[f"{name}:{MASTER}"])
            self._optimizer.state[master] = {
                "step": torch.tensor(float(step), device=master.device),
                **{key: tensors[f"{name}:{key}"].to(master.device) for key in (MOMENT, VARIANCE)},
            }
        self._publish()

    def _trainable(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((n, p) for n, p in self.module.model.named_parameters() if p.requires_grad)

    def _collect_gradients(self) -> None:
        """Add low-precision gradients to the masters' float32 ones, and free them."""
        for parameter, master in self._masters.items():
            if master is parameter or parameter.grad is None:
                continue
            gradient = parameter.grad.float()
            master.grad = gradient if master.grad is None else master.grad.add_(gradient)
            parameter.grad = None

    def _all_reduce(self) -> None:
        """Sum gradients over ranks, in buckets."""
        if self._world.size == 1:
            return
        bucket: list[Tensor] = []
        for master in self._masters.values():
            if master.grad is None:
                master.grad = torch.zeros_like(master)
            bucket.append(master.grad)
            if sum(gradient.numel() for gradient in bucket) >= _BUCKET_NUMEL:
                _reduce_bucket(bucket)
                bucket = []
        if bucket:
            _reduce_bucket(bucket)

    @torch.no_grad()
    def _publish(self) -> None:
        """Round the masters to the model's type."""
        for parameter, master in self._masters.items():
            if master is not parameter:
                parameter.copy_(master)


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
