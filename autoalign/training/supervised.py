"""The supervised objective: the answers' summed cross-entropy, as one module that engines wrap."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from autoalign.losses.cross_entropy import cross_entropy_sum, linear_cross_entropy_sum
from autoalign.training.batches import Batch

_HEAD_TRANSFORMS = ("final_logit_softcapping", "logit_scale", "logits_scaling", "output_multiplier")


class SupervisedModel(nn.Module):
    """A causal language model that maps a batch to its summed loss.

    Only the hidden states that predict a supervised token reach the language-model head.
    Where the head is a plain linear layer held whole on this rank, its logits are made in
    chunks; elsewhere (ZeRO-3, soft-capped or scaled logits) the model's own head runs.
    """

    def __init__(self, model: Any, whole_head: bool = True) -> None:
        super().__init__()
        self.model = model
        self._chunked = whole_head and _has_plain_head(model)

    def forward(self, batch: Batch) -> Tensor:
        """Sum over supervised tokens of -log p(token), a float32 scalar."""
        inputs: dict[str, Any] = {
            "input_ids": batch.input_ids,
            "position_ids": batch.position_ids,
            "attention_mask": batch.attention_mask,
            "use_cache": False,
        }
        if batch.row_lengths is not None:
            inputs["row_lengths"] = batch.row_lengths
        if self._chunked:
            return self._chunked_loss(inputs, batch)
        return self._whole_loss(inputs, batch)

    def _chunked_loss(self, inputs: dict[str, Any], batch: Batch) -> Tensor:
        causal_lm = base_model(self.model)
        hidden = causal_lm.get_decoder()(**inputs).last_hidden_state
        picked = hidden.reshape(-1, hidden.shape[-1]).index_select(0, batch.predict_from)
        return linear_cross_entropy_sum(picked, causal_lm.get_output_embeddings().weight, batch.targets)

    def _whole_loss(self, inputs: dict[str, Any], batch: Batch) -> Tensor:
        if batch.row_lengths is not None:
            logits = self.model(**inputs, logits_to_keep=batch.predict_from).logits[0]
        else:
            logits = self.model(**inputs).logits
            logits = logits.reshape(-1, logits.shape[-1]).index_select(0, batch.predict_from)
        return cross_entropy_sum(logits, batch.targets)


def base_model(model: Any) -> Any:
    """The transformers model inside a PEFT wrapper, or the model itself."""
    return model.get_base_model() if hasattr(model, "peft_config") else model


def _has_plain_head(model: Any) -> bool:
    causal_lm = base_model(model)
    head = causal_lm.get_output_embeddings()
    scaled = any(getattr(causal_lm.config, name, None) not in (None, 1, 1.0) for name in _HEAD_TRANSFORMS)
    return (
        type(head) is nn.Linear and head.bias is None and not scaled and isinstance(head.weight, torch.Tensor)
    )
