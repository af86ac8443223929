"""Bearer tokens in the database: made, listed, revoked, looked up."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError

from autoalign.errors import ConfigError, nearest
from autoalign.jobs.database import Database, new_id
from autoalign.jobs.tables import TokenRow
from autoalign.principals import SCOPES, Principal, TokensUnavailable

_PREFIX = "aa-"
_RANDOM_BYTES = 32
_LONGEST = 200  # characters of what is looked up


class NewToken(NamedTuple):
    """A token's text, which is shown once, and what is kept of it."""

    text: str
    row: TokenRow


class TokenStore:
    """A `TokenBook` over the database.

    A token is 32 random bytes, so one round of SHA-256 is enough: there is nothing to guess.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, name: str, scopes: Iterable[str]) -> NewToken:
        """Make a token.

        Raises:
            ConfigError: no name, or a scope that does not exist.
        """
        name, wanted = name.strip(), sorted(set(scopes))
        if not name or len(name) > _LONGEST or not name.isprintable():
            raise ConfigError("--name: 1 to 200 printable characters are expected")
        for scope in wanted:
            if scope not in SCOPES:
                raise ConfigError(
                    f"--scope: '{scope}' is none of {', '.join(sorted(SCOPES))}{nearest(scope, SCOPES)}"
                )
        if not wanted:
            raise ConfigError(f"--scope: one or several of {', '.join(sorted(SCOPES))} are expected")
        text = _PREFIX + secrets.token_hex(_RANDOM_BYTES)
        row = TokenRow(
            id=new_id("tok-"),
            name=name,
            scopes=",".join(wanted),
            digest=_digest(text),
            created_at=time.time(),
        )
        with self._database.write() as session:
            session.add(row)
        return NewToken(text, row)

    def all(self) -> list[TokenRow]:
        """Every token there was, the oldest first."""
        with self._database.read() as session:
            return list(session.scalars(select(TokenRow).order_by(TokenRow.number)))

    def revoke(self, token_id: str) -> None:
        """Close a token; a running endpoint knows within a second.

        Raises:
            ConfigError: there is no such token, or it is revoked already.
        """
        change = update(TokenRow).where(TokenRow.id == token_id, TokenRow.revoked_at.is_(None))
        with self._database.write() as session:
            if session.execute(change.values(revoked_at=time.time())).rowcount != 1:  # type: ignore[attr-defined]
                raise ConfigError(f"no valid token has the id '{token_id}'; see: autoalign-cli tokens list")

    def find(self, token: str) -> Principal | None:
        """The bearer of a valid token; None for one that is unknown or revoked.

        Raises:
            TokensUnavailable: the database does not answer.
        """
        if len(token) > _LONGEST:
            return None
        digest = _digest(token)
        query = select(TokenRow).where(TokenRow.digest == digest, TokenRow.revoked_at.is_(None))
        try:
            with self._database.read() as session:
                row = session.scalar(query)
        except OperationalError:
            raise TokensUnavailable("the platform's database does not answer; try again later") from None
        # The index is searched by a hash that nobody can steer; what it gives is compared once more.
        if row is None or not hmac.compare_digest(row.digest, digest):
            return None
        return Principal(row.id, row.name, frozenset(row.scopes.split(",")))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
