"""Prometheus figures of the gateway."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """The figures, in a registry of their own; labels hold no user's text but models that exist."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "autoalign_requests",
            "requests answered, by route and status",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "autoalign_request_seconds",
            "from a request's arrival to the end of its answer",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.queued = Gauge(
            "autoalign_queued", "requests that wait for an engine", ["model"], registry=self.registry
        )
        self.in_flight = Gauge(
            "autoalign_in_flight", "requests that an engine works on", ["model"], registry=self.registry
        )
        self.first_token = Histogram(
            "autoalign_time_to_first_token_seconds",
            "from a request's arrival to the first piece of its answer",
            ["model"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.output_tokens = Counter(
            "autoalign_output_tokens",
            "tokens generated; its rate is tokens/s. A streamed answer counts one for each event",
            ["model"],
            registry=self.registry,
        )

    def text(self) -> bytes:
        """The figures in Prometheus's text format."""
        return generate_latest(self.registry)
