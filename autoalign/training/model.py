"""Load the model to train and its adapter; decide how a batch is laid out."""

from __future__ import annotations

from typing import Any

import torch

from autoalign.config.train import TrainConfig
from autoalign.errors import MissingDependency
from autoalign.training import attention


def load_model(config: TrainConfig, path: str, adapter: str | None = None) -> Any:
    """The causal language model to train, with its LoRA adapter if one is asked for.

    Args:
        path: folder of the (base) model.
        adapter: folder of an adapter to go on with; a new one is made when None.
    """
    from transformers import AutoModelForCausalLM

    attention.register()
    model = AutoModelForCausalLM.from_pretrained(
        path,
        dtype=torch.bfloat16 if config.bf16 else torch.float32,
        attn_implementation=attention_name(config, path),
        trust_remote_code=config.trust_remote_code,
        use_safetensors=True,
    )
    if config.use_lora:
        model = _with_adapter(model, config, adapter)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        if config.use_lora:
            model.enable_input_require_grads()
    return model.train()


def _with_adapter(model: Any, config: TrainConfig, adapter: str | None) -> Any:
    from peft import LoraConfig, PeftModel, get_peft_model

    if adapter is not None:
        return PeftModel.from_pretrained(model, adapter, is_trainable=True)
    targets = config.lora_target_modules
    torch.manual_seed(config.seed)
    return get_peft_model(
        model,
        LoraConfig(
            task_type="CAUSAL_LM",
            r=config.lora_rank,
            lora_alpha=config.lora_alpha,
            lora_dropout=config.lora_dropout,
            target_modules=targets[0] if targets == ["all-linear"] else targets,
        ),
    )


def is_padding_free(config: TrainConfig, path: str) -> bool:
    """Whether batches are laid out without padding.

    Attention with logit soft-capping has no SDPA kernel, so such models (Gemma 2) are padded.
    """
    from transformers import AutoConfig

    model_config = AutoConfig.from_pretrained(path, trust_remote_code=config.trust_remote_code)
    return config.padding_free and not getattr(model_config, "attn_logit_softcapping", None)


def attention_name(config: TrainConfig, path: str) -> str:
    """The `attn_implementation` for transformers.

    Raises:
        MissingDependency: flash_attention_2 is asked for and not installed.
    """
    from transformers.utils.import_utils import is_flash_attn_2_available

    wanted = config.attn_implementation
    if not is_padding_free(config, path):
        return "eager" if wanted == "eager" or config.padding_free else "sdpa"
    if wanted == "flash_attention_2" and not is_flash_attn_2_available():
        raise MissingDependency(
            "attn_implementation flash_attention_2 needs a GPU and `pip install flash-attn`"
        )
    if wanted == "flash_attention_2" or (wanted == "auto" and is_flash_attn_2_available()):
        return "flash_attention_2"
    return attention.NAME
