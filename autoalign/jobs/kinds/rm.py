"""A reward model's training."""

from autoalign.config.rm import RMConfig
from autoalign.jobs.kinds._keys import TRAINED, TRAINING
from autoalign.jobs.kinds._kind import Kind

KIND = Kind(RMConfig, "rm", TRAINING, TRAINED, makes_model=True)
