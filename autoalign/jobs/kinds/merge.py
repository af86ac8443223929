"""Checkpoints combined; short, and written whole or not at all, so nothing of it is kept half-way."""

from autoalign.config.merge import MergeConfig
from autoalign.jobs.kinds._keys import TRAINED, roles
from autoalign.jobs.kinds._kind import Kind

_KEYS = roles(MODEL="models base_model tokenizer_source", NAME="method", OUTPUT="output_dir")
KIND = Kind(MergeConfig, "merge", _KEYS, TRAINED, makes_model=True, resumes=False)
