"""`autoalign-cli tokens create | list | revoke`: who may use a platform."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from typing import TYPE_CHECKING

from autoalign.cli.flags import Parser
from autoalign.principals import SCOPES

if TYPE_CHECKING:
    from autoalign.jobs.token_store import TokenStore

_ABOUT = """\
Tokens open a platform's HTTP API. They are kept, hashed, in the platform's database:
AUTOALIGN_DATABASE_URL, or SQLite below AUTOALIGN_HOME (default: outputs/platform).
"""


def tokens(args: list[str]) -> int:
    """Entry of the `tokens` command."""
    parser = Parser(prog="autoalign-cli tokens", description=_ABOUT)
    actions = parser.add_subparsers(dest="action", metavar="{create,list,revoke}", required=True)
    create = actions.add_parser("create", help="make a token; its text is printed last, this once")
    create.add_argument("--name", required=True, metavar="TEXT", help="whom it is for")
    create.add_argument(
        "--scope",
        required=True,
        metavar="S,S",
        help=f"one or several of {', '.join(sorted(SCOPES))}, with commas; admin opens everything",
    )
    actions.add_parser("list", help="every token, with what it opens")
    revoke = actions.add_parser("revoke", help="close a token; endpoints know within a second")
    revoke.add_argument("id", metavar="ID")
    given = parser.parse_strict(args)
    return {"create": _create, "list": _list, "revoke": _revoke}[given.action](_store(), given)


def _store() -> TokenStore:
    from autoalign.jobs.database import Database
    from autoalign.jobs.settings import Settings
    from autoalign.jobs.token_store import TokenStore

    return TokenStore(Database(Settings.from_environment().database_url))


def _create(store: TokenStore, given: Namespace) -> int:
    scopes = [scope.strip() for scope in given.scope.split(",") if scope.strip()]
    token = store.create(given.name, scopes)
    print(f"{token.row.id}: {token.row.name}, {token.row.scopes}; it can't be shown again", file=sys.stderr)
    print(token.text)
    return 0


def _list(store: TokenStore, given: Namespace) -> int:
    rows: list[tuple[str, ...]] = [("ID", "NAME", "SCOPES", "MADE", "STATE")]
    for token in store.all():
        made = time.strftime("%Y-%m-%d", time.gmtime(token.created_at))
        state = "revoked" if token.revoked_at else "valid"
        rows.append((token.id, token.name, token.scopes, made, state))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _revoke(store: TokenStore, given: Namespace) -> int:
    store.revoke(given.id)
    print(f"{given.id} is revoked", file=sys.stderr)
    return 0
