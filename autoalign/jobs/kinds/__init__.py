"""Kinds of jobs: one file each, found by its name, with a `KIND`."""

from __future__ import annotations

from autoalign import plugins
from autoalign.jobs.kinds._kind import Kind, Role

__all__ = ["Kind", "Role", "load", "names"]


def names() -> list[str]:
    """The kinds there are."""
    return plugins.names(__name__)


def load(name: str) -> Kind:
    """The kind called `name`.

    Raises:
        UnknownName: there is none; the message lists those there are.
    """
    kind: Kind = plugins.load(__name__, name).KIND
    return kind
