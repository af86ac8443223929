"""Supervised fine-tuning."""

from autoalign.config.sft import SFTConfig
from autoalign.jobs.kinds._keys import TRAINED, TRAINING
from autoalign.jobs.kinds._kind import Kind

KIND = Kind(SFTConfig, "sft", TRAINING, TRAINED, makes_model=True)
