"""OpenAI's batches: a file of chat completion requests."""

from autoalign.config.batch import BatchConfig
from autoalign.jobs.kinds._keys import ENGINE, roles
from autoalign.jobs.kinds._kind import Kind

KIND = Kind(
    BatchConfig,
    "batch",
    ENGINE | roles(DATA="input_file", OUTPUT="output_file error_file"),
    {"output_file": "out/answers.jsonl", "error_file": "out/errors.jsonl"},
)
