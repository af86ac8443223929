"""Prometheus figures of each engine, on the metrics endpoint of its Ray node.

Ray puts `ray_` in front of the names. Where that endpoint is: docs/sampling.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autoalign import cluster
from autoalign.sampling.messages import Answer

ROWS, ERRORS = "autoalign_sample_rows", "autoalign_sample_errors"
PROMPT_TOKENS, OUTPUT_TOKENS = "autoalign_sample_prompt_tokens", "autoalign_sample_output_tokens"
IN_FLIGHT = "autoalign_sample_in_flight"
_TAGS = ("model", "replica")
_COUNTERS = {
    ROWS: "answers that were made",
    ERRORS: "answers that failed",
    PROMPT_TOKENS: "tokens of the prompts of answers that were made",
    OUTPUT_TOKENS: "tokens of answers that were made",
}


class EngineMetrics:
    """What one engine tells; nothing outside of Ray."""

    def __init__(self, model: str, replica: str) -> None:
        self._counters: dict[str, Any] = {}
        self._in_flight: Any = None
        if not cluster.is_up():
            return
        from ray.util.metrics import Counter, Gauge

        tags = {"model": model, "replica": replica}
        for name, description in _COUNTERS.items():
            self._counters[name] = Counter(name, description, _TAGS)
            self._counters[name].set_default_tags(tags)
        self._in_flight = Gauge(IN_FLIGHT, "answers at work", _TAGS)
        self._in_flight.set_default_tags(tags)

    def record(self, answers: Sequence[Answer], in_flight: int) -> None:
        """Once for each message to the driver, not for each answer: a call takes microseconds."""
        if self._in_flight is None:
            return
        self._in_flight.set(in_flight)
        made = [answer for answer in answers if answer.error is None]
        amounts = {
            ROWS: len(made),
            ERRORS: len(answers) - len(made),
            PROMPT_TOKENS: sum(answer.prompt_tokens for answer in made),
            OUTPUT_TOKENS: sum(answer.completion_tokens for answer in made),
        }
        for name, amount in amounts.items():
            if amount:
                self._counters[name].inc(amount)
