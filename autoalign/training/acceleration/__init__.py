"""Choices of speed and memory, one file each; docs/training.md says when each pays."""
