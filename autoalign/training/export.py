"""Model folders that transformers 4 and 5 and vLLM load: weights, tokenizer, chat template."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from autoalign import chat, compat
from autoalign.config.train import TrainConfig
from autoalign.training.engines.base import Engine
from autoalign.training.light_imports import save_without_deepspeed
from autoalign.training.model import ModelKind, load_weights


def gather_weights(engine: Engine, is_main: bool, adapter_only: bool) -> dict[str, Tensor]:
    """All weights on rank 0's CPU memory; empty on the other ranks, which take part all the same.

    Args:
        adapter_only: keep the adapter alone: LoRA's weights, and modules trained in full beside them.
    """
    kept: dict[str, Tensor] = {}
    for name, tensor in engine.weights():
        if is_main and (not adapter_only or "lora_" in name or "modules_to_save" in name):
            kept[name] = tensor.detach().to("cpu", copy=True)
    return kept


def write_model(
    folder: Path, model: Any, weights: Mapping[str, Tensor], tokenizer: Any, template: chat.Template
) -> None:
    """Save a model (or its adapter) with the tokenizer and the chat template it was trained with."""
    save_without_deepspeed()
    model.save_pretrained(folder, state_dict=dict(weights), safe_serialization=True)
    write_tokenizer(folder, model, tokenizer, template)


def write_tokenizer(folder: Path, model: Any, tokenizer: Any, template: chat.Template) -> None:
    """The tokenizer with `chat_template.jinja`, and generation settings that stop at the turn's end."""
    chat.install(tokenizer, template)
    tokenizer.save_pretrained(folder)
    if (folder / "config.json").is_file():
        if model.can_generate():
            _write_generation_config(folder, model, tokenizer, template)
        compat.make_loadable_by_transformers_4(folder)


def _write_generation_config(folder: Path, model: Any, tokenizer: Any, template: chat.Template) -> None:
    generation = model.generation_config
    present = generation.eos_token_id
    present = present if isinstance(present, list) else [present] if present is not None else []
    stops = list(dict.fromkeys([*chat.stop_token_ids(template, tokenizer), *present]))
    if stops:
        generation.eos_token_id = stops if len(stops) > 1 else stops[0]
    generation.save_pretrained(folder)


def merge_adapter(config: TrainConfig, kind: ModelKind, base: str, adapter: Path) -> Any:
    """The base model with the adapter's weights added in (W + BA * alpha / rank)."""
    from peft import PeftModel

    model = load_weights(config, kind, base)
    return PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
