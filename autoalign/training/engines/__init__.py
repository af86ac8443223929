"""Engines turn micro-batches into updated weights: plain PyTorch, or DeepSpeed."""
