"""When the next request may go out: rate limits, and waits that grow from one failure to the next."""

from __future__ import annotations

import random
from collections.abc import Callable

FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0  # seconds


class Pace:
    """A rate that is kept by spacing, so that no stretch of time holds more than it allows.

    Args:
        per_minute: how much may go out in a minute; None: any amount.
    """

    def __init__(self, per_minute: float | None) -> None:
        self._seconds_each = 0.0 if per_minute is None else 60.0 / per_minute
        self._free_at = 0.0

    def reserve(self, amount: float, now: float) -> float:
        """Book `amount`; returns the seconds until it may go out."""
        start = max(now, self._free_at)
        self._free_at = start + amount * self._seconds_each
        return start - now

    def give_back(self, amount: float) -> None:
        """Less was used than booked (or more, when negative)."""
        self._free_at -= amount * self._seconds_each


def backoff(attempt: int, draw: Callable[[], float] = random.random) -> float:
    """Seconds before try `attempt + 1` (counted from 0): doubled each time, of which half is left to chance.

    Chance keeps requests that failed together from coming back together.
    """
    longest = min(LONGEST_WAIT, FIRST_WAIT * 2.0**attempt)
    return longest * (0.5 + 0.5 * draw())
