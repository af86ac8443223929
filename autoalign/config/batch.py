"""The config of `autoalign-cli batch`."""

from __future__ import annotations

from pydantic import Field

from autoalign.config.engine import EngineConfig


class BatchConfig(EngineConfig):
    """Answer a file of OpenAI chat completion requests, in the format of OpenAI's Batch API."""

    input_file: str = Field(description="JSONL: custom_id, method, url, body in each row")
    output_file: str = Field(description="JSONL: the answers, in the input's order")
    error_file: str = Field(description="JSONL: the requests that could not be answered, with reasons")
    max_new_tokens: int = Field(
        1024, ge=1, description="longest answer of a request that sets none, in tokens"
    )
    seed: int = Field(42, ge=0, description="of requests that set none")
