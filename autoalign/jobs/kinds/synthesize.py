"""Instructions and answers made with a model."""

from autoalign.config.synthesize import SynthesizeConfig
from autoalign.jobs.kinds._keys import ENGINE, roles
from autoalign.jobs.kinds._kind import Kind

_KEYS = roles(
    NAME="method task",
    DATA="seed_path prompts_dir",
    OUTPUT="output_file",
    TEXT="seed_key system_message excluded_words seeds_are",
)
KIND = Kind(SynthesizeConfig, "synthesize", ENGINE | _KEYS, {"output_file": "out/rows.jsonl"})
