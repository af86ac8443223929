"""Requests to this machine go past a proxy, which would look for the server at its own place."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_NAMES = ("NO_PROXY", "no_proxy")  # libraries read the one or the other
_HERE = ("127.0.0.1", "localhost")


def past_proxies(variables: Mapping[str, str]) -> dict[str, str]:
    """NO_PROXY as `variables` have it, with this machine."""
    given = [host.strip() for name in _NAMES for host in variables.get(name, "").split(",")]
    hosts = dict.fromkeys([*filter(None, given), *_HERE])
    # Together with others a star is no longer taken for all hosts.
    return dict.fromkeys(_NAMES, "*" if "*" in hosts else ",".join(hosts))


@contextmanager
def here_past_proxies() -> Iterator[None]:
    """The same for this process and those that it starts."""
    before = {name: os.environ.get(name) for name in _NAMES}
    os.environ.update(past_proxies(os.environ))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
