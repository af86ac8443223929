"""Where an application of this cluster's Ray Serve can be reached."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoalign.errors import ConfigError, nearest

_ALIVE = ("HEALTHY", "DRAINING")


async def urls_of(app: str) -> tuple[str, ...]:
    """`http://NODE:PORT/ROUTE/v1` of every proxy that is up.

    Raises:
        ConfigError: Serve does not run on this cluster, or has no such application.
    """
    import asyncio

    # The controller is asked with a blocking call.
    return urls_in(await asyncio.to_thread(_details), app)


def _details() -> Mapping[str, Any]:
    # `serve.status()` leaves out routes and ports.
    from ray.serve.context import _get_global_client

    client: Any = _get_global_client(raise_if_no_controller_running=False)
    if client is None:
        raise ConfigError("serve_app: Ray Serve does not run on this cluster; give --base_url, or start it")
    details: Mapping[str, Any] = client.get_serve_details()
    return details


def urls_in(details: Mapping[str, Any], app: str) -> tuple[str, ...]:
    """The URLs of `app` in what Serve's controller tells of itself (`ServeInstanceDetails`)."""
    apps = details["applications"]
    if app in apps and apps[app]["route_prefix"] is None:
        raise ConfigError(
            f"serve_app: '{app}' has no route of Ray Serve's; give the address it listens on with --base-url"
        )
    if app not in apps:
        known = ", ".join(sorted(apps)) or "none"
        raise ConfigError(f"serve_app: no application '{app}'{nearest(app, apps)}; there are: {known}")
    port = details["http_options"]["port"]
    root = f"{details['http_options']['root_path'] or ''}{apps[app]['route_prefix']}".rstrip("/")
    hosts = [each["node_ip"] for each in details["proxies"].values() if str(each["status"]) in _ALIVE]
    if not hosts:
        raise ConfigError(f"serve_app: Ray Serve has no proxy that is up, so '{app}' can't be asked")
    return tuple(f"http://{host}:{port}{root}/v1" for host in sorted(hosts))
