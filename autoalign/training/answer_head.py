"""A language model's output layer that is asked for losses of its logits, rather than for the logits.

ZeRO-3 keeps a shard of every weight on each rank, and gathers a layer's weights when the layer is called,
forward and backward (arXiv:1910.02054). What reads the head's matrix a chunk of positions at a time
therefore goes through a call of the head, with any engine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

_TRANSFORMS = (
    "final_logit_softcapping",
    "lm_head_multiplier",
    "logit_scale",
    "logits_mup_width_multiplier",
    "logits_scaling",
    "logits_soft_cap",
    "output_logit_soft_cap",
    "output_multiplier",
)
"""What configs call a factor or a soft cap of their logits."""

OfHead = Callable[..., Tensor]
"""Makes something of (positions, width) inputs of the head, its (vocab, width) matrix, and more tensors."""


class AnswerHead(nn.Linear):
    """The output layer; a call gives logits, as before, or what a function makes of inputs and matrix."""

    def forward(self, hidden: Tensor, make: OfHead | None = None, *more: Tensor) -> Tensor:
        """`make(hidden, weight, *more)`; without `make`, the (..., vocab) logits."""
        return super().forward(hidden) if make is None else make(hidden, self.weight, *more)


def answer_head(causal_lm: Any) -> AnswerHead | None:
    """The model's own output layer, made one that can be asked.

    Returns:
        None where the logits are more than one matrix product of the decoder's output: a bias, a
        scaling, a soft cap.
    """
    head = causal_lm.get_output_embeddings()
    if type(head) not in (nn.Linear, AnswerHead) or head.bias is not None:
        return None
    configs = (causal_lm.config, causal_lm.config.get_text_config())
    factors = [getattr(config, name, None) for config in configs for name in _TRANSFORMS]
    if any(factor not in (None, 1, 1.0) for factor in factors):
        return None
    if causal_lm.get_decoder() is causal_lm:  # some name no decoder of theirs (Llama 4)
        return None
    head.__class__ = AnswerHead
    return head  # type: ignore[no-any-return]
