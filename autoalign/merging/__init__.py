"""Merging checkpoints: weights are read, merged and written a few megabytes at a time."""
