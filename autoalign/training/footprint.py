"""What a training worker holds in memory, worked out from the model's shapes.

Five moments can be the highest: the reference's log-probs before the first step (each worker holds
the whole reference, and nothing else), the loss (activations and logits are there), the end of the
backward pass (every gradient in the model's type), the update (gradients beside weights, masters and
moments: the same, or float32 where several are added up), and, in the host's memory, a save (copies of
what is written). A checkpoint written in the background keeps its copy of weights, masters and moments
while training goes on.

**Activations** are what autograd keeps for the backward pass. Per token and layer of a
Llama-like decoder, with `e` bytes a number (2 in bf16, 4 in fp32), width `h`, MLP width `i`,
`q = heads * head_dim` and `k = kv_heads * head_dim`:

    RMSNorm, twice    e h + 4   its input, the inverse root
    attention         e (q + 2k)    query and key after rotation, value
                      e q + 4 heads in float32 the output and the log-sum-exp too
    MLP               2 e i     gate, up
    linear layers     e q       their inputs: attention's output; norms and the gated product
                                are made again (lean_modules.py)

An architecture without lean modules keeps more: a norm `4h + 4` (its input in float32) and `e h`
for its weight (not with LoRA), the MLP `3 e i`, linear layers `e (2h + q + i)`.

Frozen linear layers keep no input, but PEFT's adapters (float32 whatever the model) keep theirs:
under bf16 each adapter its own float32 copy of `in` numbers, and `4 rank` bytes behind it; with
dropout also the noise. `eager` attention keeps each head's probabilities, rows * length^2 of them.
Checkpointing keeps a layer's input, `e h`, and one layer in full; offloaded, that one layer alone is
on the GPU. The final norm counts as half a
layer's two.

**Logits** are made for as many positions at a time as `LOGITS_BYTES` hold, in the model's type;
their softmax in float32 a few positions at a time; then the gradient of the head.

**Buffers** are DeepSpeed's: a bucket of gradients on their way to other ranks (two where it overlaps
that with the backward pass), and under ZeRO-3 the whole weights gathered from them, up to a limit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from autoalign.config import deepspeed
from autoalign.config.train import TrainConfig
from autoalign.errors import ModelError

_SHARD_BYTES = 4 << 30
"""Optimizer state held at a time while a checkpoint is written, as in tensors.py."""

_LIVE_PARAMETERS = 10**9
"""DeepSpeed's `stage3_max_live_parameters`."""
_REDUCE_BUCKET = 5 * 10**8
"""DeepSpeed's `reduce_bucket_size`, where a JSON file leaves it alone."""

LOGITS_BYTES = 192 << 20
"""Logits held at a time, as in losses/cross_entropy.py."""
_SOFTMAX_POSITIONS = 32
"""Positions whose softmax is worked out at a time, as there."""

LEAN_MODEL_TYPES = frozenset({"llama", "mistral", "qwen2", "qwen3"})
"""Architectures whose norms and MLPs keep little, as in lean_modules.py."""

BEFORE_THE_STEPS = "at the reference's log-probs"

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Architecture:
    """Sizes of a Llama-like decoder."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    is_lean: bool = True
    """Its norms and MLPs are the lean ones."""

    @property
    def linear_inputs(self) -> dict[str, int]:
        """Width of what each linear layer of a decoder layer takes."""
        h, q = self.hidden, self.heads * self.head_dim
        attention = {"q_proj": h, "k_proj": h, "v_proj": h, "o_proj": q}
        return {**attention, "gate_proj": h, "up_proj": h, "down_proj": self.intermediate}


def read_architecture(folder: Path) -> Architecture:
    """The sizes in a model folder's config.json.

    Raises:
        ModelError: the file can't be read, or the model is not of a kind that is known here.
    """
    path = folder / "config.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: can't be read: {error}") from None
    content = content.get("text_config", content)
    keys = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "vocab_size")
    if missing := [key for key in keys if not isinstance(content.get(key), int)]:
        raise ModelError(
            f"{path}: {', '.join(missing)} missing; memory is planned for Llama-like decoders "
            "(Llama, Mistral, Qwen2 and their kin)"
        )
    layers, hidden, intermediate, heads, vocab = (content[key] for key in keys)
    kv_heads = content.get("num_key_value_heads") or heads
    head_dim = content.get("head_dim") or hidden // heads
    is_lean = content.get("model_type") in LEAN_MODEL_TYPES
    return Architecture(layers, hidden, intermediate, heads, kv_heads, head_dim, vocab, is_lean)


class MicroBatch(NamedTuple):
    """One worker's largest share of a step."""

    tokens: int
    """With padding, where there is any."""
    supervised: int
    row_lengths: Sequence[int] = ()


@dataclass(frozen=True)
class Footprint:
    """Bytes a worker holds, by part; not all at the same moment."""

    libraries: int
    weights: int
    reference: int
    whole_reference: int
    """Before the model is loaded: its log-probs are worked out by every worker alone."""
    optimizer: int
    """Float32 masters, or their lower halves alone (engines/split_adamw.py), and both moments."""
    gradients: int
    """At the update: float32, or of a single micro-batch on one worker in the model's type."""
    raw_gradients: int
    """In the model's type, at the end of the backward pass."""
    activations: int
    logits: int
    buffers: int
    """DeepSpeed's, during a step."""
    saving: int
    """More than weights and optimizer while a model or a checkpoint is written."""
    snapshot: int
    """Rank 0's copy of a checkpoint that is written in the background, steps going on."""
    accumulates: bool
    """Whether the float32 gradients of earlier micro-batches are there in later ones."""

    @property
    def moments(self) -> dict[str, int]:
        """Bytes held at each moment that may be the highest."""
        held = self.libraries + self.weights + self.reference + self.optimizer
        earlier = self.gradients if self.accumulates else 0
        step = held + self.snapshot + self.buffers
        return {
            BEFORE_THE_STEPS: self.libraries + self.whole_reference,
            "at the loss": step + earlier + self.activations + self.logits,
            "after the backward pass": step + earlier + self.raw_gradients,
            "at the update": step + self.gradients,
            "at the save": held + self.saving,
        }

    @property
    def peak(self) -> int:
        """Bytes at the highest moment."""
        return max(self.moments.values())

    @property
    def peak_moment(self) -> str:
        """The name of that moment."""
        return max(self.moments, key=self.moments.__getitem__)


def activation_bytes(sizes: Architecture, config: TrainConfig, batch: MicroBatch) -> int:
    """What autograd keeps of `batch`; see the module's docstring."""
    tokens = math.ceil(batch.tokens / config.sequence_parallel_size)
    layer = _layer_bytes(sizes, config) * tokens
    if config.attn_implementation == "eager":
        squares = sum(length**2 for length in batch.row_lengths)
        layer += sizes.heads * squares * (4 + (2 if config.bf16 else 0))
    width = _width(config)
    final = (_norm_bytes(sizes, config) + width * sizes.hidden) * tokens
    picked = width * sizes.hidden * batch.supervised
    if config.activation_offload:
        return layer + final + picked
    if config.gradient_checkpointing:
        recomputed = math.ceil(sizes.layers / config.gradient_checkpointing_every)
        inputs = recomputed * width * sizes.hidden * tokens
        return inputs + (sizes.layers - recomputed + 1) * layer + final + picked
    return sizes.layers * layer + final + picked


def _layer_bytes(sizes: Architecture, config: TrainConfig) -> int:
    """Per token."""
    q, k = sizes.heads * sizes.head_dim, sizes.kv_heads * sizes.head_dim
    attention = _width(config) * (q + 2 * k)
    if not config.bf16:
        attention += _width(config) * q + 4 * sizes.heads
    gated = (2 if sizes.is_lean else 3) * _width(config) * sizes.intermediate
    return 2 * _norm_bytes(sizes, config) + attention + gated + _linear_input_bytes(sizes, config)


def _norm_bytes(sizes: Architecture, config: TrainConfig) -> int:
    if sizes.is_lean:
        return _width(config) * sizes.hidden + 4
    normalised = 0 if config.use_lora else _width(config) * sizes.hidden
    return 4 * sizes.hidden + 4 + normalised


def _linear_input_bytes(sizes: Architecture, config: TrainConfig) -> int:
    inputs = sizes.linear_inputs
    shared = {"k_proj": "q_proj", "v_proj": "q_proj", "up_proj": "gate_proj"}
    made_again = {"q_proj", "gate_proj", "down_proj"} if sizes.is_lean else set()
    kept = {name: width for name, width in inputs.items() if name not in {*shared, *made_again}}
    if not config.use_lora:
        return _width(config) * sum(kept.values())
    targets = [name for name in inputs if _is_target(name, config)]
    behind = 4 * config.lora_rank * len(targets)
    if config.lora_dropout:
        return behind + 8 * sum(inputs[name] for name in targets)
    if config.bf16:
        return behind + 4 * sum(inputs[name] for name in targets)
    return behind + 4 * sum(kept.get(name, 0) for name in {shared.get(name, name) for name in targets})


def logit_bytes(sizes: Architecture, config: TrainConfig, supervised: int) -> int:
    """The head's work space: one chunk of logits, and the head's gradient."""
    width, matrix = _width(config), sizes.vocab * sizes.hidden
    chunks = max(1, math.ceil(supervised * sizes.vocab * width / LOGITS_BYTES))
    positions = math.ceil(supervised / chunks)
    logits = positions * sizes.vocab * width
    softmax = min(_SOFTMAX_POSITIONS, positions) * sizes.vocab * (4 + 4)
    if config.use_lora:
        return logits + softmax
    # Several chunks' gradients are summed in float32, beside the next one.
    return logits + max(softmax, matrix * (width if chunks == 1 else width + 4))


def adapter_parameters(shapes: Shapes, config: TrainConfig) -> int:
    """Weights of the LoRA adapters: `rank * (in + out)` for each target."""
    return sum(
        config.lora_rank * sum(shape)
        for name, shape in shapes.items()
        if len(shape) == 2 and _is_target(name.removesuffix(".weight"), config)
    )


def _is_target(module: str, config: TrainConfig) -> bool:
    name = module.rsplit(".", 1)[-1]
    if config.lora_target_modules == ["all-linear"]:
        return name not in ("embed_tokens", "lm_head")
    return any(f".{module}".endswith(f".{target}") or name == target for target in config.lora_target_modules)


def _width(config: TrainConfig) -> int:
    return 2 if config.bf16 else 4


class _Sharding(NamedTuple):
    """By how many workers each part is divided."""

    weights: int = 1
    gradients: int = 1
    optimizer: int = 1


def footprint(
    config: TrainConfig,
    shapes: Shapes,
    sizes: Architecture,
    batch: MicroBatch,
    *,
    workers: int,
    libraries: int,
    keeps_reference: bool = False,
    precomputes_reference: bool = False,
    on_gpu: bool = False,
) -> Footprint:
    """Every part of a worker's memory, in bytes.

    Args:
        batch: the largest micro-batch.
        workers: over which ZeRO shards.
        libraries: what the process takes before it holds a model.
        keeps_reference: a frozen copy of the model stays in memory.
        precomputes_reference: its log-probs are worked out before the first step.
    """
    width, whole = _width(config), sum(map(math.prod, shapes.values()))
    trained = adapter_parameters(shapes, config) if config.use_lora else whole
    settings = _zero_settings(config, workers)
    zero = _sharding(settings["stage"], workers)
    base = base_bytes(shapes, config)
    weights = base + (4 * trained if config.use_lora else 0)
    state = 8 + _master_bytes(config)
    offloaded = on_gpu and settings.get("offload_optimizer", {}).get("device", "none") != "none"
    activations = activation_bytes(sizes, config, batch)
    logits = logit_bytes(sizes, config, batch.supervised)
    # The allocator keeps what a step freed; adapters are merged into the base mapped a second time.
    merging = activations + logits + width * whole if config.use_lora else 0
    return Footprint(
        libraries=libraries,
        weights=_held_weights(weights // zero.weights, config),
        reference=base // zero.weights if keeps_reference else 0,
        whole_reference=base if precomputes_reference else 0,
        optimizer=0 if offloaded else state * trained // zero.optimizer,
        gradients=_update_bytes(config, trained, workers) // zero.optimizer,
        raw_gradients=(4 if config.use_lora else width) * trained // zero.gradients,
        activations=activations,
        logits=logits,
        buffers=width * _buffered(settings, whole, trained, workers, on_gpu),
        saving=0 if on_gpu else max(merging, _copied_bytes(config, whole, trained)),
        snapshot=0 if on_gpu else _snapshot_bytes(config, whole, trained),
        accumulates=_accumulates(config, workers),
    )


def _accumulates(config: TrainConfig, workers: int) -> bool:
    """A step may have several micro-batches: where it is cut by tokens, or few of its workers are there."""
    fewest = min(workers, config.min_workers)
    return config.max_tokens_per_batch is not None or config.accumulation(fewest) > 1


def _update_bytes(config: TrainConfig, trained: int, workers: int) -> int:
    is_summed = workers > 1 or _accumulates(config, workers)
    if config.deepspeed != "none" or config.use_lora or not config.bf16 or is_summed:
        return 4 * trained
    return 2 * trained


def _master_bytes(config: TrainConfig) -> int:
    """For each trained weight, beside the model's own."""
    if config.deepspeed == "none":
        return 2 if config.bf16 and not config.use_lora else 0
    return 4 if (config.bf16 and not config.use_lora) or config.deepspeed != "zero0" else 0


def base_bytes(shapes: Shapes, config: TrainConfig) -> int:
    """The model's own weights, quantised or not.

    Four bits a number carry an eight-bit scale for 64 of them, and those a float32 for 256
    (arXiv:2305.14314, section 3); eight bits carry a float32 a row.
    """
    total = 0.0
    for name, shape in shapes.items():
        numel = math.prod(shape)
        is_linear = len(shape) == 2 and name.rsplit(".", 2)[-2] not in ("embed_tokens", "lm_head")
        if is_linear and config.load_in_4bit:
            total += numel * (0.5 + 1 / 64 + 4 / (64 * 256))
        elif is_linear and config.load_in_8bit:
            total += numel + 4 * shape[0]
        else:
            total += numel * _width(config)
    return int(total)


def _held_weights(weights: int, config: TrainConfig) -> int:
    """On the device: offloaded ones come back a layer at a time, up to DeepSpeed's own limit."""
    return weights if config.offload_param == "none" else min(weights, _LIVE_PARAMETERS * _width(config))


def _copied_bytes(config: TrainConfig, whole: int, trained: int) -> int:
    """Rank 0 copies the weights and, for a checkpoint, masters and moments: a shard, or all of them."""
    if snapshot := _snapshot_bytes(config, whole, trained):
        return snapshot
    weights = 4 * trained if config.use_lora else _width(config) * whole
    return weights + (min(_SHARD_BYTES, 12 * trained) if config.save_steps else 0)


def _snapshot_bytes(config: TrainConfig, whole: int, trained: int) -> int:
    if not (config.save_steps and config.async_save):
        return 0
    return (4 * trained if config.use_lora else _width(config) * whole) + 12 * trained


def _zero_settings(config: TrainConfig, workers: int) -> dict[str, Any]:
    """DeepSpeed's; without it stage 0, which shards nothing."""
    if config.deepspeed == "none":
        return {"stage": 0}
    settings: dict[str, Any] = deepspeed.settings(config, workers)["zero_optimization"]
    return settings


def _buffered(zero: Mapping[str, Any], whole: int, trained: int, workers: int, on_gpu: bool) -> int:
    """Numbers that a rank holds to exchange gradients and weights with the others."""
    stage, gathered = zero["stage"], 0
    if stage == 3 and workers > 1:
        gathered = min(whole, int(zero.get("stage3_max_live_parameters", _LIVE_PARAMETERS)))
    if stage == 0 or not zero.get("contiguous_gradients", True):
        return gathered
    # A CPU gives memory to what is written alone.
    bucket = int(zero.get("reduce_bucket_size", _REDUCE_BUCKET))
    bucket = bucket if on_gpu else min(bucket, trained)
    count = 2 if stage < 3 and zero.get("overlap_comm", False) else 1
    return gathered + count * bucket


def _sharding(stage: int, workers: int) -> _Sharding:
    """Stage 1 shards the optimizer, 2 the gradients too, 3 the weights too (arXiv:1910.02054)."""
    return _Sharding(*(workers if stage >= least else 1 for least in (3, 2, 1)))
