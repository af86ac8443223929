"""The logistic loss with labels that may be wrong."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def smoothed_logistic(logits: Tensor, label_smoothing: float) -> Tensor:
    """-(1 - eps) log sigmoid(z) - eps log sigmoid(-z), of the shape of `logits`."""
    if label_smoothing == 0:
        return -F.logsigmoid(logits)
    return -(1 - label_smoothing) * F.logsigmoid(logits) - label_smoothing * F.logsigmoid(-logits)
