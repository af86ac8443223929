"""How many there are to be: a number, or a range that the cluster's room decides within."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator


def _count(value: Any) -> int | str:
    """A number above 0, or `MIN:MAX` as it is."""
    text = "" if isinstance(value, bool) else str(value).strip()
    fewest, colon, most = text.partition(":")
    if not fewest.isdecimal() or (colon and not most.isdecimal()):
        raise ValueError("a number, or MIN:MAX, is expected")
    if int(fewest) < 1 or (colon and int(most) < int(fewest)):
        raise ValueError("at least 1 is needed, and MAX is not below MIN")
    return text if colon else int(fewest)


Count = Annotated[int | str, BeforeValidator(_count)]


def fewest(count: int | str) -> int:
    """The lower end of a `Count`."""
    return int(str(count).split(":")[0])


def most(count: int | str) -> int:
    """The upper end of a `Count`."""
    return int(str(count).split(":")[-1])
