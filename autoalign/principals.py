"""Who asks: the bearer of a token, and where tokens are looked up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, get_args

Scope = Literal["infer", "jobs", "admin"]
SCOPES: frozenset[str] = frozenset(get_args(Scope))


@dataclass(frozen=True)
class Principal:
    """The bearer of one token.

    Args:
        token_id: what the token is called in the store and in logs; never the token itself.
        name: whom it was made for.
        scopes: some of `infer`, `jobs`, `admin`.
    """

    token_id: str
    name: str
    scopes: frozenset[str]

    def may(self, scope: str) -> bool:
        """Whether the token opens what `scope` guards; `admin` opens everything."""
        return scope in self.scopes or "admin" in self.scopes


# Who everybody is where tokens are off, which a public address never is.
EVERYBODY = Principal("none", "everybody", SCOPES)


class TokensUnavailable(RuntimeError):
    """Where tokens are kept does not answer, so nobody can be let in now."""


class TokenBook(Protocol):
    """Where tokens are looked up; `find` is called from threads, and may block."""

    def find(self, token: str) -> Principal | None:
        """The bearer of a valid token; None for one that is unknown or revoked.

        Raises:
            TokensUnavailable: it can't be known now.
        """
