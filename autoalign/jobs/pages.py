"""One page of a list: the newest rows first, after a row that the reader has seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from autoalign.errors import InputError

RowT = TypeVar("RowT")


class UnknownCursor(InputError, LookupError):
    """`after` names nothing in the list."""


@dataclass(frozen=True)
class Cursor:
    """Which page: at most `limit` rows, behind the one with the id `after`."""

    limit: int = 20
    after: str | None = None
    oldest_first: bool = False


@dataclass(frozen=True)
class Page(Generic[RowT]):
    """Rows, and whether there are more behind them."""

    rows: list[RowT]
    has_more: bool


def page(session: Session, query: Select[RowT], table: Any, cursor: Cursor) -> Page[RowT]:
    """The page of `query`, whose rows come from `table`, ordered by their number.

    Raises:
        UnknownCursor: `after` is not in the table.
    """
    if cursor.after is not None:
        number = session.scalar(select(table.number).where(table.id == cursor.after))
        if number is None:
            raise UnknownCursor(f"'after': there is no '{cursor.after[:80]}' in this list")
        query = query.where(table.number > number if cursor.oldest_first else table.number < number)
    order = table.number if cursor.oldest_first else table.number.desc()
    rows = list(session.scalars(query.order_by(order).limit(cursor.limit + 1)))
    return Page(rows[: cursor.limit], len(rows) > cursor.limit)
