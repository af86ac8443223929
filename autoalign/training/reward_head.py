"""A language model's body with a head that gives one number: loaded, and started anew where it is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from autoalign import model_folder
from autoalign.errors import ModelError


def load(from_pretrained: Callable[..., Any], path: str, name: str, seed: int) -> Any:
    """A sequence classifier of one output.

    Args:
        from_pretrained: the auto class's, with all arguments but those of the head.
        path: the model folder; a causal language model's will do.
        name: the head's attribute.
        seed: a new head's weights follow from it.

    Raises:
        ModelError: the folder lacks more weights than the head's, or its architecture has no such head.
    """
    with _quiet():
        # `regression` keeps servers (vLLM among them) from squeezing the number through a sigmoid.
        model, info = from_pretrained(num_labels=1, problem_type="regression", output_loading_info=True)
    head = getattr(model, name, None)
    if not isinstance(head, nn.Linear) or head.bias is not None:
        raise ModelError(f"{path}: {type(model).__name__} has no '{name}' layer to give rewards with")
    missing = set(info["missing_keys"])
    if missing - {f"{name}.weight"}:
        raise ModelError(f"{path}: weights are missing: {', '.join(sorted(missing)[:3])}")
    if missing:
        _start(head, model.config.get_text_config().hidden_size, seed)
    _set_padding(model.config, path)
    return model


@torch.no_grad()
def _start(head: nn.Linear, width: int, seed: int) -> None:
    """Weights from N(0, 1 / (width + 1)), as in arXiv:2009.01325 (appendix B.1), the same on every rank."""
    fresh = torch.randn(1, width, generator=torch.Generator().manual_seed(seed)) / (width + 1) ** 0.5
    with _whole(head.weight):
        head.weight.copy_(fresh)


def _whole(weight: Tensor) -> Any:
    """ZeRO-3 keeps a shard of the weight; what rank 0 writes into the whole one goes to all."""
    if not hasattr(weight, "ds_id"):
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters([weight], modifier_rank=0)


def _set_padding(config: Any, path: str) -> None:
    """transformers' own forward finds a padded row's last token by this id."""
    text = config.get_text_config()
    if text.pad_token_id is None:
        tokenizer = model_folder.load_tokenizer(path)
        has_none = tokenizer.pad_token_id is None
        text.pad_token_id = tokenizer.eos_token_id if has_none else tokenizer.pad_token_id


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers warns of the head that is about to be made and of the one that is left out."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
