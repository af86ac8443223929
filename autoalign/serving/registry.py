"""The platform's database, as the endpoint uses it: tokens, and the models that jobs have made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from autoalign.errors import MissingDependency
from autoalign.principals import Principal, TokenBook

if TYPE_CHECKING:
    from autoalign.jobs.settings import Settings


class Registry(Protocol):
    """Models by the ids that jobs gave them, and by the names that they were promoted to."""

    def find(self, name: str, principal: Principal | None = None) -> Path | None:
        """The folder of a model that `principal` may use; None as principal may use any."""

    def served(self) -> Mapping[str, Any]:
        """The names that models were promoted to."""


class NoRegistry:
    """Of an endpoint without jobs."""

    def find(self, name: str, principal: Principal | None = None) -> Path | None:
        """None."""
        return None

    def served(self) -> Mapping[str, Any]:
        """None."""
        return {}


def settings() -> Settings:
    """The platform's, from the environment; made once, and sent to where it is needed.

    Raises:
        MissingDependency: SQLAlchemy is not installed.
    """
    try:
        from autoalign.jobs.settings import Settings
    except ImportError as error:
        raise MissingDependency("tokens and jobs need SQLAlchemy: pip install 'autoalign[serve]'") from error
    return Settings.from_environment()


def open_book(where: Settings) -> TokenBook:
    """The tokens of the platform's database."""
    from autoalign.jobs.database import Database
    from autoalign.jobs.token_store import TokenStore

    return TokenStore(_database(where, Database))


def open_registry(where: Settings) -> Registry:
    """The models of the platform's database."""
    from autoalign.jobs.database import Database
    from autoalign.jobs.model_store import ModelStore

    return ModelStore(_database(where, Database))


def _database(where: Settings, make: Any) -> Any:
    where.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    return make(where.database_url)
