"""The states of a job, and which may follow which."""

from __future__ import annotations

from typing import Literal, get_args

State = Literal["queued", "running", "paused", "succeeded", "failed", "cancelled", "lost"]
STATES: tuple[State, ...] = get_args(State)
FINAL: frozenset[State] = frozenset({"succeeded", "failed", "cancelled", "lost"})

# What its user wants of a running job, until it has come about.
Intent = Literal["", "cancel", "pause"]

NEXT: dict[State, frozenset[State]] = {
    "queued": frozenset({"running", "paused", "cancelled", "failed"}),
    # Back to queued: a job that goes on after its cluster lost it.
    "running": frozenset({"queued", "paused", *FINAL}),
    "paused": frozenset({"queued", "cancelled"}),
    "succeeded": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
    "lost": frozenset(),
}
