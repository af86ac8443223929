"""AutoAlign: from a base model to an aligned, evaluated, served one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autoalign.client import Client as Client

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`autoalign.Client`, imported when it is asked for: `import autoalign` stays light."""
    if name == "Client":
        from autoalign.client import Client

        return Client
    raise AttributeError(f"module 'autoalign' has no attribute '{name}'")
