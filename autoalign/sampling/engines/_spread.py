"""Which of several equal places takes the next request. No clock of its own, no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from autoalign.sampling.engines._pace import LONGEST_WAIT, backoff


@dataclass(slots=True)
class Place:
    """A URL with its client. Times are seconds of one clock.

    Attributes:
        in_flight: requests that wait for its answer.
        sent: requests it was ever given; decides between places of the same load.
        rests_until: no request goes there before this time.
        failures: how often it failed since it last answered.
        has_answered: it has been seen to work.
    """

    url: str
    client: Any
    in_flight: int = 0
    sent: int = 0
    rests_until: float = 0.0
    failures: int = 0
    has_answered: bool = False

    def answered(self) -> None:
        """It works."""
        self.failures, self.has_answered = 0, True

    def failed(self, now: float) -> None:
        """Leave it alone for a while that grows with each failure in a row."""
        # What was in flight when it broke down fails with it: one failure, not many.
        if now >= self.rests_until:
            self.rest(now, backoff(self.failures))
            self.failures += 1

    def rest(self, now: float, seconds: float) -> None:
        """Leave it alone for `seconds`."""
        self.rests_until = max(self.rests_until, now + min(seconds, LONGEST_WAIT * 10))


def least_loaded(places: Sequence[Place], now: float, avoid: Place | None = None) -> Place | None:
    """The place with the fewest requests in flight; None while all of them rest.

    Args:
        avoid: where this request has just failed; taken only where there is no other.
    """
    awake = [place for place in places if place.rests_until <= now]
    others = [place for place in awake if place is not avoid]
    return min(others or awake, key=lambda place: (place.in_flight, place.sent), default=None)
