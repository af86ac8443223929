"""Where a platform keeps its things, and what its users may do."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from autoalign.config.base import JobConfig
from autoalign.errors import ConfigError, nearest
from autoalign.jobs import kinds

DATABASE_VARIABLE = "AUTOALIGN_DATABASE_URL"
HOME_VARIABLE = "AUTOALIGN_HOME"
ROOTS_VARIABLE = "AUTOALIGN_ROOTS"
FILE_NAME = "platform.yaml"
_MB = 1 << 20


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Limits:
    """How much one user, and all of them, may ask for.

    Attributes:
        jobs: that run at once; `jobs_per_user` of one user.
        queued_per_user: that wait at once.
        file_bytes: of one uploaded file; `line_bytes` of one of its lines.
        files_per_user: that are kept.
        batch_requests: in one batch.
        restarts: how often a job goes on after its cluster lost it.
        unreachable: seconds without the cluster after which a job counts as lost.
    """

    jobs: int = 4
    jobs_per_user: int = 2
    queued_per_user: int = 100
    file_bytes: int = 512 * _MB
    line_bytes: int = 8 * _MB
    files_per_user: int = 1000
    batch_requests: int = 50_000
    restarts: int = 3
    unreachable: float = 900.0


@dataclass(frozen=True)
class Settings:
    """A platform's folders, database and limits.

    Attributes:
        home: folder of the platform's own: jobs, files, the SQLite database.
        database_url: as SQLAlchemy writes it.
        roots: folders that jobs may read models and data from.
        defaults: for a kind of job, keys of its config that the operator sets; a job's own go first.
        hub: jobs may name models of the Hugging Face hub.
    """

    home: Path
    database_url: str
    roots: tuple[Path, ...] = ()
    limits: Limits = field(default_factory=Limits)
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    hub: bool = True

    @classmethod
    def from_environment(cls, home: Path | None = None, **changes: Any) -> Settings:
        """Settings by AUTOALIGN_HOME, AUTOALIGN_DATABASE_URL, AUTOALIGN_ROOTS and HOME/platform.yaml.

        Raises:
            ConfigError: the database's URL or the file can't be read.
        """
        home = (home or Path(os.environ.get(HOME_VARIABLE) or "outputs/platform")).resolve()
        url = os.environ.get(DATABASE_VARIABLE) or f"sqlite:///{home / 'autoalign.db'}"
        named = os.environ.get(ROOTS_VARIABLE)
        roots = named.split(os.pathsep) if named else ["models", "data"]
        of_the_file = _OperatorFile.from_sources(path, {}) if (path := home / FILE_NAME).is_file() else None
        given: dict[str, Any] = {"roots": tuple(Path(root).resolve() for root in roots if root)}
        given |= {**(of_the_file.settings() if of_the_file else {}), **changes}
        return cls(home=home, database_url=_checked(url), **given)

    @property
    def jobs_folder(self) -> Path:
        """One folder a job."""
        return self.home / "jobs"

    @property
    def files_folder(self) -> Path:
        """Uploaded files, each under its id."""
        return self.home / "files"


class _OperatorFile(JobConfig):
    """What `platform.yaml` may say."""

    limits: Limits = Limits()
    defaults: dict[str, dict[str, Any]] = Field(default_factory=dict)
    hub: bool = True

    def settings(self) -> dict[str, Any]:
        """The keys of `Settings` that it sets; every default is a key of its kind.

        Raises:
            UnknownName: there is no such kind.
            ConfigError: it has no such key.
        """
        for name, keys in self.defaults.items():
            known = kinds.load(name).config.model_fields
            for key in keys:
                if key not in known:
                    raise ConfigError(
                        f"{FILE_NAME}: defaults: {name} has no key '{key}'{nearest(key, known)}"
                    )
        return {"limits": self.limits, "defaults": self.defaults, "hub": self.hub}


def _checked(url: str) -> str:
    """The URL, with psycopg 3 as PostgreSQL's driver.

    The password is in it, so no message repeats it.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigError(f"{DATABASE_VARIABLE} is no database URL: postgresql://USER@HOST/NAME") from None
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise ConfigError(f"{DATABASE_VARIABLE}: SQLite or PostgreSQL, not {parsed.get_backend_name()}")
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    return parsed.render_as_string(hide_password=False)
