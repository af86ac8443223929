"""Which models have their rows padded, and which attention of their own they then get.

Rows laid end to end are kept apart by attention alone, which is told where each one begins
(attention.py). A model that hands something on from token to token elsewhere (a convolution, a
recurrent state), that attends by code of its own, or that asks of attention what our kernels lack,
would let a row see the one before it, or a token what comes after it. Such a model gets padded rows
and a mask: padding comes last, so that no causal layer has seen it when it comes to a row's tokens.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

_KNOWN_LAYERS = frozenset({"full_attention", "sliding_attention"})


class Padded(NamedTuple):
    """Why a model's rows are padded, and what attends."""

    reason: str
    """What is said of the model, to follow its name."""
    attention: Literal["sdpa", "eager"]
    """transformers' own: SDPA where that is the same function as eager attention."""
    has_flash: bool
    """flash_attention_2 is the same function too."""

    def instead_of(self, wanted: str) -> str:
        """What attends where the config wants a kernel for rows laid end to end."""
        return wanted if wanted == "flash_attention_2" and self.has_flash else self.attention


def why_padded(path: str, trust_remote_code: bool) -> Padded | None:
    """What keeps the rows of a model folder from being laid end to end; None: nothing does.

    Raises:
        OSError, ValueError, KeyError: transformers can't make a model of the folder's config.json.
    """
    return _judged(path, trust_remote_code, (Path(path) / "config.json").read_bytes())


@lru_cache(maxsize=8)
def _judged(path: str, trust_remote_code: bool, content: bytes) -> Padded | None:
    """`content` is the config's: another one at the same path is another model."""
    model = _empty_model(path, trust_remote_code)
    exact = next(_beyond_sdpa(model), None)
    reason = exact or next(_beyond_rows(model), None)
    if reason is None:
        return None
    has_sdpa = exact is None and bool(model._supports_sdpa)
    has_flash = bool(model._supports_flash_attn) and not _has_sinks(model)
    return Padded(reason, "sdpa" if has_sdpa else "eager", has_flash)


def _empty_model(path: str, trust_remote_code: bool) -> Any:
    """The model without its weights: every module is there, and takes no memory."""
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    named = getattr(config, "auto_map", None) or {}
    is_causal = type(config) in AutoModelForCausalLM._model_mapping or "AutoModelForCausalLM" in named
    auto: Any = AutoModelForCausalLM if is_causal else AutoModel
    with _apart_from_deepspeed(), torch.device("meta"):
        return auto.from_config(config, trust_remote_code=trust_remote_code, attn_implementation="eager")


@contextmanager
def _apart_from_deepspeed() -> Iterator[None]:
    """While a config of ZeRO-3 is about, transformers would partition the model, and fill its weights."""
    from transformers.integrations import deepspeed

    found: Any = deepspeed._hf_deepspeed_config_weak_ref
    deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        if found is not None and (config := found()) is not None:
            deepspeed.set_hf_deepspeed_config(config)


def _beyond_sdpa(model: Any) -> Iterator[str]:
    """What neither SDPA nor any kernel of ours knows of."""
    if getattr(model.config.get_text_config(), "attn_logit_softcapping", None):
        yield "soft-caps its attention logits"
    if _has_sinks(model):
        yield "has attention sinks"


def _has_sinks(model: Any) -> bool:
    """Scores of a token that is not there, one a head (as in gpt-oss)."""
    return any(name.rsplit(".", 1)[-1] == "sinks" for name, _ in model.named_parameters())


def _beyond_rows(model: Any) -> Iterator[str]:
    """What attention over rows laid end to end does not know of."""
    import torch

    decoder = model.get_decoder()
    if model._is_stateful or any(isinstance(module, torch.nn.Conv1d) for module in decoder.modules()):
        yield "hands a state or a convolution on from token to token"
    layers = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
    if unknown := sorted(layers - _KNOWN_LAYERS):
        yield f"has layers of the kind {', '.join(unknown)}"
    if not model._supports_attention_backend:
        yield "attends by code of its own"
    if any(getattr(module, "is_causal", True) is False for module in decoder.modules()):
        yield "has attention that looks ahead"
    if "position_ids" not in inspect.signature(decoder.forward).parameters:
        yield "takes no position ids"
