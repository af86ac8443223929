"""DeepSpeed ZeRO stages 0 to 3, or a DeepSpeed JSON file.

The optimizer's state goes in and out whole, parameter by parameter, through DeepSpeed's
safe_get/safe_set calls, and is kept as safetensors: any number of workers and any stage
can go on from it, and nothing is unpickled.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from autoalign.config.train import TrainConfig
from autoalign.errors import ConfigError, MissingDependency
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
from autoalign.training.engines.zero_update import ask_before_updates
from autoalign.training.light_imports import without
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
        with without("mlflow"):  # its tuner, which nothing here asks for, would load all of it
            import deepspeed
    except ImportError:
        raise MissingDependency("--deepspeed needs DeepSpeed: pip install 'autoalign[train]'") from None
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    # Its shared-memory all-reduce is compiled at first use, which takes g++, Python.h and ninja on PATH;
    # on the CPU gloo does the same work with what is installed.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    # Takes over the process group that is there; without it DeepSpeed believes to be alone.
    deepspeed.init_distributed(dist_backend="nccl" if device.type == "cuda" else "gloo")
    return deepspeed


@contextmanager
def sharded_loading(settings: Mapping[str, Any]) -> Iterator[None]:
    """Under ZeRO-3, let `from_pretrained` put each weight straight into its shard."""
    if settings["zero_optimization"]["stage"] < 3:
        yield
        return
    from transformers.integrations.deepspeed import HfDeepSpeedConfig

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
        self._accumulation = config.accumulation(world.size)
        self._world = world
        self._kept_activations = kept_activations(config, module, world.device)
        offload = settings["zero_optimization"].get("offload_optimizer", {}).get("device", "none")
        self._on_nvme = offload == "nvme"
        try:
            self._engine, self._optimizer, _, _ = deepspeed.initialize(
                model=module,
                optimizer=_adamw(module, config, on_cpu=offload != "none"),
                config=dict(settings),
                dist_init_required=False,
            )
        except ValidationError as error:
            problems = "; ".join(f"'{'.'.join(map(str, e['loc']))}': {e['msg']}" for e in error.errors())
            raise ConfigError(f"{config.deepspeed}: DeepSpeed refuses {problems}") from None
        self.module = self._engine.module
        self._accepted: Callable[[float], bool] = lambda norm: True
        ask_before_updates(self._optimizer, self._stage, lambda norm: self._accepted(norm))
        # Some of DeepSpeed's wrappers take a step on zero gradients to fill the state; it would
        # count in Adam's bias correction.
        self._make_optimizer_state(0)

    def train_step(
        self, batches: Iterable[Batch], denominator: float, lr: float, accept: Accept = accept_all
    ) -> StepResult:
        # DeepSpeed divides by the accumulation steps and averages over ranks; the loss wanted
        # is the sum over all of them, divided once.
        scale = self._accumulation * self._world.size / denominator
        self._set_lr(lr)
        loss_sum = whole_norm = 0.0
        for batch, is_last in _with_end(batches):
            # A token budget makes a step's micro-batches as many as its rows need.
            self._engine.set_gradient_accumulation_boundary(is_last)
            with self._kept_activations():
                loss = self._engine(batch.to(self._world.device))
            self._engine.backward(loss * scale)
            loss_sum += float(loss.detach())
            self._accepted = partial(accept, loss_sum)
            whole_norm = self._whole_grad_norm()
            if self._is_whole_update() and not self._accepted(whole_norm):
                self._drop_gradients()
            else:
                self._engine.step()
        sharded_norm = self._engine.get_global_grad_norm()
        return StepResult(loss_sum, whole_norm if sharded_norm is None else float(sharded_norm))

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> float:
        self._engine.eval()
        loss = float(self._engine(batch.to(self._world.device)))
        self._engine.train()
        return loss

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in whole_weights(self.module.model):
            with self._gathered(tensor):
                yield name, tensor.detach()

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

    def _gathered(self, tensor: Tensor) -> Any:
        return self._deepspeed.zero.GatheredParameters([tensor], enabled=hasattr(tensor, "ds_id"))

    def _set_lr(self, lr: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = lr

    def _is_whole_update(self) -> bool:
        """Stage 0, and this micro-batch is the step's last."""
        return self._stage == 0 and bool(self._engine.is_gradient_accumulation_boundary())

    def _drop_gradients(self) -> None:
        """Stage 0: pass over the update, as DeepSpeed's own `step` counts it."""
        self._engine.zero_grad()
        self._engine.micro_steps += 1

    def _whole_grad_norm(self) -> float:
        """Stage 0 in float32 keeps no norm: take it between the all-reduce and the step."""
        if not self._is_whole_update():
            return 0.0
        gradients = [p.grad for p in self.module.parameters() if p.grad is not None]
        return float(nn.utils.get_total_norm(gradients))

    def _make_optimizer_state(self, step: int) -> None:
        """Give AdamW the state it has after `step` steps, so that values can be set."""
        inner = self._inner_optimizer()
        for parameter in self._optimized():
            if self._on_nvme and parameter in inner.state:
                # The moments are in files, all zero; their step count is in memory.
                inner.state[parameter]["step"] = step
                continue
            inner.state[parameter] = {
                "step": torch.tensor(float(step), device=parameter.device)
                if isinstance(inner, torch.optim.AdamW)
                else step,
                MOMENT: torch.zeros_like(parameter),
                VARIANCE: torch.zeros_like(parameter),
            }
        link = getattr(self._optimizer, "_lazy_init_hp_params_optimizer_state", None)
        if link is not None:
            link()

    def _optimized(self) -> list[Tensor]:
        """What AdamW keeps its state under."""
        # Stage 3 puts a shard into its parameter group for the length of its update alone.
        shards = getattr(self._optimizer, "fp32_partitioned_groups_flat", None)
        if shards is not None:
            return list(shards)
        return [parameter for group in self._inner_optimizer().param_groups for parameter in group["params"]]

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


def _with_end(batches: Iterable[Batch]) -> Iterator[tuple[Batch, bool]]:
    """Each batch, and whether it is the last."""
    iterator = iter(batches)
    batch = next(iterator)
    for following in iterator:
        yield batch, False
        batch = following
    yield batch, True


def _adamw(module: SupervisedModel, config: TrainConfig, on_cpu: bool) -> torch.optim.Optimizer:
    """AdamW; DeepSpeed's vectorised one where the optimizer is offloaded to the CPU."""
    groups = parameter_groups(module, config.weight_decay)
    betas = (config.adam_beta1, config.adam_beta2)
    if on_cpu:
        from deepspeed.ops.adam import DeepSpeedCPUAdam

        optimizer: torch.optim.Optimizer = DeepSpeedCPUAdam(
            groups, lr=config.learning_rate, betas=betas, eps=config.adam_epsilon, adamw_mode=True
        )
        return optimizer
    # Fused: written out, an update makes copies as large as the moments.
    return torch.optim.AdamW(
        groups, lr=config.learning_rate, betas=betas, eps=config.adam_epsilon, fused=True
    )
