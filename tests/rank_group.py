"""A group of processes on this machine that run one function together, as torchrun would start them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

_IMPORTS = ("autoalign.training.run", "autoalign.training.loop", "transformers.models.llama.modeling_llama")


def together(size: int, function: Callable[..., Any], *args: Any) -> None:
    """Run `function(*args)` in `size` new processes, each with its rank in the environment.

    They are forks of a process that has the libraries loaded, once for all tests.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.set_forkserver_preload(list(_IMPORTS))
    torch.multiprocessing.start_processes(
        _as_rank, (size, port, function, args), nprocs=size, start_method="forkserver"
    )


def _as_rank(rank: int, size: int, port: int, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()})
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    torch.set_num_threads(1)
    function(*args)


def train(config: Any) -> None:
    """One rank of a job."""
    from autoalign.training.run import run

    run(config)


def train_on_answers(config: Any) -> None:
    """One rank of a `grpo` job."""
    from autoalign.reinforcement.run import run

    run(config)


def losses_and_gradients(cases: dict[str, Any], results: Path) -> None:
    """The loss of each case's batch over all ranks, and the summed gradients, written by rank 0."""
    import torch.distributed as dist

    from autoalign.training import world
    from autoalign.training.acceleration import sequence_parallel

    place = world.join_from_environment(True, False)
    sequence = sequence_parallel.join(place.size, place)
    found = {}
    for name, (config, batch) in cases.items():
        module = module_of(config)
        loss = module(sequence.share(batch))
        loss.backward()
        total = loss.detach().clone()
        dist.all_reduce(total)
        gradients = {key: _summed(weight) for key, weight in module.model.named_parameters()}
        found[name] = {"loss": total, **gradients}
    if place.is_main:
        torch.save(found, results)
    world.leave()


def module_of(config: Any) -> Any:
    """The job's module: its model with the loss."""
    from autoalign.config.dpo import DPOConfig
    from autoalign.training.model import load_model
    from autoalign.training.preference import PreferenceModel
    from autoalign.training.supervised import SupervisedModel

    model = load_model(config, config.model_name_or_path)
    return PreferenceModel(model, config) if isinstance(config, DPOConfig) else SupervisedModel(model)


def _summed(weight: Any) -> Any:
    import torch.distributed as dist

    gradient = weight.grad.clone()
    dist.all_reduce(gradient)
    return gradient
