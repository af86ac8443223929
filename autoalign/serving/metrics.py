"""Prometheus figures of the gateway."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """The figures, in a registry of their own.

    Labels hold no user's text but models that exist, and a name that is being looked up (`waiters.py`).
    """

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
            "tokens generated, as engines report them; its rate is tokens/s",
            ["model"],
            registry=self.registry,
        )

    def watch_jobs(self, counts: Callable[[], Mapping[str, int] | None]) -> None:
        """Show jobs by state.

        Args:
            counts: jobs of each state at this moment; None while that can't be known. It may block.
        """
        self.registry.register(_Jobs(counts))

    def text(self) -> bytes:
        """The figures in Prometheus's text format."""
        return generate_latest(self.registry)


class _Jobs(Collector):
    """Asked anew for every scrape: the database knows, this process does not."""

    def __init__(self, counts: Callable[[], Mapping[str, int] | None]) -> None:
        self._counts = counts

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Without a look into the database, for the registry's check of names."""
        yield self._family()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One figure a state."""
        family = self._family()
        for state, count in (self._counts() or {}).items():
            family.add_metric([state], count)
        yield family

    def _family(self) -> GaugeMetricFamily:
        return GaugeMetricFamily("autoalign_jobs", "jobs of the platform, by state", labels=["state"])
