"""Preference training."""

from autoalign.config.dpo import DPOConfig
from autoalign.jobs.kinds._keys import TRAINED, TRAINING, roles
from autoalign.jobs.kinds._kind import Kind

KIND = Kind(
    DPOConfig, "dpo", TRAINING | roles(MODEL="ref_model", NAME="loss_type"), TRAINED, makes_model=True
)
