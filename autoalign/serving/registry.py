"""The platform's database, as the endpoint uses it: tokens, and the models that jobs have made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from autoalign.errors import MissingDependency
from autoalign.principals import Principal, TokenBook

if TYPE_CHECKING:
    from autoalign.jobs.model_store import ModelStore
    from autoalign.jobs.settings import Settings


class RegistryUnavailable(RuntimeError):
    """The database does not answer, so it is not known which model a name means."""


class Registry(Protocol):
    """Models by the ids that jobs gave them, and by the names that they were promoted to."""

    def find(self, name: str, principal: Principal | None = None) -> Path | None:
        """The folder of a model that `principal` may use; None as principal may use any.

        Raises:
            RegistryUnavailable: it can't be known now.
        """

    def served(self) -> Mapping[str, Any]:
        """The names that models were promoted to.

        Raises:
            RegistryUnavailable: they can't be known now.
        """


class NoRegistry:
    """Of an endpoint without jobs."""

    def find(self, name: str, principal: Principal | None = None) -> Path | None:
        """None."""
        return None

    def served(self) -> Mapping[str, Any]:
        """None."""
        return {}


@dataclass(frozen=True)
class _OfPlatform:
    """The registry of a platform's database."""

    store: ModelStore

    def find(self, name: str, principal: Principal | None = None) -> Path | None:
        with _database_answers():
            return self.store.find(name, principal)

    def served(self) -> Mapping[str, Any]:
        with _database_answers():
            return self.store.served()


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

    return _OfPlatform(ModelStore(_database(where, Database), where.jobs_folder))


@contextmanager
def _database_answers() -> Iterator[None]:
    from sqlalchemy.exc import OperationalError

    try:
        yield
    except OperationalError:
        raise RegistryUnavailable("the platform's database does not answer; try again later") from None


def _database(where: Settings, make: Any) -> Any:
    where.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    return make(where.database_url)
