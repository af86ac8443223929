"""Training by rewards on the model's own answers."""

from autoalign.config.grpo import GRPOConfig
from autoalign.jobs.kinds import score
from autoalign.jobs.kinds._keys import TRAINED, TRAINING, roles
from autoalign.jobs.kinds._kind import Kind

KIND = Kind(
    GRPOConfig,
    "grpo",
    TRAINING | roles(NAME="reward", TEXT="system_message reward_options", CLOSED="handover_dir"),
    TRAINED,
    makes_model=True,
    nested={"reward_options": score.KIND.roles},
)
