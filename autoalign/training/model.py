"""Load the model to train and its adapter; decide how a batch is laid out."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch

from autoalign.config.grpo import GRPOConfig
from autoalign.config.train import TrainConfig
from autoalign.errors import ConfigError, ModelError, nearest
from autoalign.training.acceleration import attention_choice, liger, quantization, regions, ulysses
from autoalign.training.lean_modules import make_lean
from autoalign.training.padding import Padded, why_padded


class ModelKind(NamedTuple):
    """Which transformers class a job trains."""

    auto_class: str
    lora_task: str
    """PEFT's name of it."""
    head: str | None = None
    """A linear layer of one output that a base model lacks: started anew, and trained in full beside
    an adapter."""


CAUSAL_LM = ModelKind("AutoModelForCausalLM", "CAUSAL_LM")
REWARD = ModelKind("AutoModelForSequenceClassification", "SEQ_CLS", head="score")


def load_model(
    config: TrainConfig, path: str, adapter: str | None = None, kind: ModelKind = CAUSAL_LM
) -> Any:
    """The model to train, with its LoRA adapter if one is asked for.

    Args:
        path: folder of the (base) model.
        adapter: folder of an adapter to go on with; a new one is made when None.
        kind: what the model is loaded as.

    Raises:
        ModelError: transformers can't load the folder.
        ConfigError: a LoRA target that the model lacks, or a choice of speed or memory that
            this model or machine rules out.
    """
    name = attention_choice.attention_name(config, _padded(config, path))
    model = load_weights(config, kind, path, attn_implementation=name, **quantization.options(config))
    base, layers = model, decoder_layers(model)
    if config.sequence_parallel_size > 1:
        ulysses.require_divisible(model.config.num_attention_heads, config.sequence_parallel_size)
    if config.use_liger_kernel:
        liger.apply(model)
    quantization.prepare(model, config)
    if config.use_lora:
        model = _with_adapter(model, config, adapter, kind)
    if config.gradient_checkpointing:
        base.gradient_checkpointing_enable({"use_reentrant": False})
        for index, layer in enumerate(layers):
            layer.gradient_checkpointing = index % config.gradient_checkpointing_every == 0
        if config.use_lora:
            model.enable_input_require_grads()
    if config.torch_compile:
        regions.compile_layers(base, layers)
    elif not config.use_liger_kernel:
        make_lean(model)
    return model.train()


def decoder_layers(model: Any) -> Any:
    """The nn.ModuleList of a model's decoder layers: its outermost list of modules, whatever its name."""
    lists = (module for module in model.modules() if isinstance(module, torch.nn.ModuleList))
    return next(lists, torch.nn.ModuleList())


def load_weights(config: TrainConfig, kind: ModelKind, path: str, **options: Any) -> Any:
    """A model folder as `kind`, in the job's number type; a head that it lacks starts anew.

    Args:
        options: further arguments of `from_pretrained`.

    Raises:
        ModelError: transformers can't load the folder.
    """
    import transformers
    from transformers.utils.logging import disable_progress_bar

    from autoalign.training import reward_head

    disable_progress_bar()
    with _naming(path):
        loaded = partial(
            getattr(transformers, kind.auto_class).from_pretrained,
            path,
            dtype=torch.bfloat16 if config.bf16 else torch.float32,
            trust_remote_code=config.trust_remote_code,
            use_safetensors=True,
            **options,
        )
        return loaded() if kind.head is None else reward_head.load(loaded, path, kind.head, config.seed)


def _with_adapter(model: Any, config: TrainConfig, adapter: str | None, kind: ModelKind) -> Any:
    # PEFT imports bitsandbytes, which misses a kernel from a hub that it does without.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    from peft import LoraConfig, PeftModel, get_peft_model

    if adapter is not None:
        return PeftModel.from_pretrained(model, adapter, is_trainable=True)
    targets = config.lora_target_modules
    _require_targets(model, targets)
    torch.manual_seed(config.seed)
    return get_peft_model(
        model,
        LoraConfig(
            task_type=kind.lora_task,
            r=config.lora_rank,
            lora_alpha=config.lora_alpha,
            lora_dropout=config.lora_dropout,
            target_modules=targets[0] if targets == ["all-linear"] else targets,
            modules_to_save=None if kind.head is None else [kind.head],
        ),
    )


def _require_targets(model: Any, targets: list[str]) -> None:
    """Every target names a module; peft passes over one that doesn't when another does."""
    names = [name for name, _ in model.named_modules()]
    for target in targets:
        if target != "all-linear" and not any(f".{name}".endswith(f".{target}") for name in names):
            linear = {
                n.rsplit(".", 1)[-1] for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)
            }
            raise ConfigError(
                f"'lora_target_modules': the model has no module '{target}'{nearest(target, linear)}; its "
                f"linear layers are {', '.join(sorted(linear))}; all-linear takes all but the output layer"
            )


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Turn what transformers says of a folder that it can't load into ModelError."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{path}: the model can't be loaded: {reason}") from None


def is_padding_free(config: TrainConfig, path: str) -> bool:
    """Whether batches are laid out without padding: transformers' sdpa and eager know rows by a mask."""
    return _wants_no_padding(config) and _padded(config, path) is None


def padding_note(config: TrainConfig, path: str) -> str | None:
    """What to say where rows are padded for the model's sake; None: nothing."""
    padded = _padded(config, path) if _wants_no_padding(config) else None
    if padded is None:
        return None
    return f"rows are padded, and no prompt is shared: {path} {padded.reason}"


def own_attention(config: TrainConfig, path: str) -> str | None:
    """The attention of transformers that a model gets which can't have ours; None: what the config names."""
    padded = _padded(config, path) if _wants_no_padding(config) else None
    return None if padded is None else padded.instead_of(config.attn_implementation)


def attention_kernel(config: TrainConfig, path: str) -> str:
    """The name of the function that attends, before sharing and compilation are put around it."""
    return attention_choice.kernel_name(config, _padded(config, path))


def shares_prompts(config: TrainConfig, path: str) -> bool:
    """Whether answers share their prompt's computation, two by two; only a batch without padding can."""
    alike = config.learns_from_pairs or isinstance(config, GRPOConfig)
    return alike and config.share_prompts and is_padding_free(config, path)


def _wants_no_padding(config: TrainConfig) -> bool:
    return config.padding_free and config.attn_implementation not in ("sdpa", "eager")


def _padded(config: TrainConfig, path: str) -> Padded | None:
    with _naming(path):
        return why_padded(path, config.trust_remote_code)
