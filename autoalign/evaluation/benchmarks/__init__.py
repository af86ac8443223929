"""Benchmarks of our own, one file each; `autoalign.evaluation.benchmark` says what is in it."""
