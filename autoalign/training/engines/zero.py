"""DeepSpeed ZeRO stages 0 to 3, or a DeepSpeed JSON file.

The optimizer's state goes in and out whole, parameter by parameter, through DeepSpeed's
safe_get/safe_set calls, and is kept as safetensors: any number of workers and any stage
can go on from it, and nothing is unpickled.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from autoalign.config.train import TrainConfig
from autoalign.training.batches import Batch
from autoalign.training.engines.base import MASTER, MOMENT, VARIANCE, StepResult
from autoalign.training.schedule import parameter_groups
from autoalign.training.supervised import SupervisedModel
from autoalign.training.world import World


def import_deepspeed(device: torch.device) -> Any:
    """DeepSpeed, told which device to use before it looks for itself, and quiet.

    Raises:
        MissingDependency: DeepSpeed is not installed.
    """
    if device.type == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    try:
        import deepspeed
    except ImportError:
        from autoalign.errors import MissingDependency

        raise MissingDependency("--deepspeed needs DeepSpeed: pip install 'autoalign[train]'") from None
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    return deepspeed


@contextmanager
def sharded_loading(settings: Mapping[str, Any]) -> Iterator[None]:
    """Under ZeRO-3, let `from_pretrained` put each weight straight into its shard."""
    if settings["zero_optimization"]["stage"] < 3:
        yield
        return
    from transformers.integrations import HfDeepSpeedConfig

    # transformers looks this object up through a weak reference while it loads.
    handle = HfDeepSpeedConfig(dict(settings))
    yield
    del handle


class ZeroEngine:
    """A DeepSpeed engine around the supervised model."""

    def __init__(
        self, module: SupervisedModel, config: TrainConfig, world: World, settings: Mapping[str, Any]
    ) -> None:
        deepspeed = import_deepspeed(world.device)
        self._deepspeed = deepspeed
        self._stage = int(settings["zero_optimization"]["stage"])
        self._accumulation = config.gradient_accumulation_steps
        self._world = world
        self._adamw = None if "optimizer" in settings else _adamw(module, config)
        self._engine, self._optimizer, _, _ = deepspeed.initialize(
            model=module, optimizer=self._adamw, config=dict(settings), dist_init_required=False
        )
        self.module = self._engine.module

    def train_step(self, batches: Iterable[Batch], denominator: float, lr: float) -> StepResult:
        # DeepSpeed divides by the accumulation steps and averages over ranks; the loss wanted
        # is the sum over all of them, divided once.
        scale = self._accumulation * self._world.size / denominator
        self._set_lr(lr)
        loss_sum = 0.0
        for batch in batches:
            loss = self._engine(batch.to(self._world.device))
            self._engine.backward(loss * scale)
            self._engine.step()
            loss_sum += float(loss.detach())
        return StepResult(loss_sum, self._grad_norm())

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> float:
        self._engine.eval()
        loss = float(self._engine(batch.to(self._world.device)))
        self._engine.train()
        return loss

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        model = self.module.model
        persistent = set(model.state_dict().keys()) if self._stage < 3 else None
        for name, parameter in model.named_parameters(remove_duplicate=False):
            with self._gathered(parameter):
                yield name, parameter.detach()
        for name, buffer in model.named_buffers():
            if persistent is None or name in persistent:
                yield name, buffer

    def state(self) -> Iterator[tuple[str, Tensor]]:
        for name, parameter in self._trainable():
            for key in (MASTER, MOMENT, VARIANCE):
                yield f"{name}:{key}", self._get(parameter, key)

    def load_state(self, tensors: Mapping[str, Tensor], step: int) -> None:
        self._make_optimizer_state(step)
        for name, parameter in self._trainable():
            for key in (MASTER, MOMENT, VARIANCE):
                self._set(parameter, key, tensors[f"{name}:{key}"].to(self._world.device))

    def _trainable(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((n, p) for n, p in self.module.model.named_parameters() if p.requires_grad)

    def _gathered(self, parameter: nn.Parameter) -> Any:
        return self._deepspeed.zero.GatheredParameters([parameter], enabled=self._stage == 3)

    def _set_lr(self, lr: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = lr

    def _grad_norm(self) -> float:
        norm = self._engine.get_global_grad_norm()
        return float("nan") if norm is None else float(norm)

    def _make_optimizer_state(self, step: int) -> None:
        """Give AdamW the state it would have after `step` steps, so that values can be set."""
        inner = self._inner_optimizer()
        for group in inner.param_groups:
            for parameter in group["params"]:
                inner.state[parameter] = {
                    "step": torch.tensor(float(step), device=parameter.device),
                    MOMENT: torch.zeros_like(parameter),
                    VARIANCE: torch.zeros_like(parameter),
                }
        link = getattr(self._optimizer, "_lazy_init_hp_params_optimizer_state", None)
        if link is not None:
            link()

    def _inner_optimizer(self) -> Any:
        return getattr(self._optimizer, "optimizer", self._optimizer)

    def _local(self, parameter: nn.Parameter, key: str) -> Tensor:
        """Stage 0: the parameter's own float32 master or moment, whole on every rank."""
        master: Tensor = parameter
        groups = getattr(self._optimizer, "fp32_groups", None)
        if groups is not None:
            pairs = zip(self._optimizer.fp16_groups, groups, strict=True)
            master = next(
                high
                for lows, highs in pairs
                for low, high in zip(lows, highs, strict=True)
                if low is parameter
            )
        if key == MASTER:
            return master.detach()
        state: Tensor = self._inner_optimizer().state[master][key]
        return state

    def _is_sharded(self, parameter: nn.Parameter) -> bool:
        return hasattr(parameter, "ds_id") or hasattr(parameter, "_hp_mapping")

    def _get(self, parameter: nn.Parameter, key: str) -> Tensor:
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        if not self._is_sharded(parameter):
            return self._local(parameter, key)
        value: Tensor = (
            safe_get_full_fp32_param(parameter)
            if key == MASTER
            else safe_get_full_optimizer_state(parameter, key)
        )
        return value

    def _set(self, parameter: nn.Parameter, key: str, value: Tensor) -> None:
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        if not self._is_sharded(parameter):
            self._local(parameter, key).copy_(value)
        elif key == MASTER:
            safe_set_full_fp32_param(parameter, value)
        else:
            safe_set_full_optimizer_state(parameter, value, key)


def _adamw(module: SupervisedModel, config: TrainConfig) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        parameter_groups(module, config.weight_decay),
        lr=config.learning_rate,
        betas=(config.adam_beta1, config.adam_beta2),
        eps=config.adam_epsilon,
    )
