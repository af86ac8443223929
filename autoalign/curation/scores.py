"""The scores that `score` wrote into a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoalign.errors import DataError, nearest


def scores_of(row: Mapping[str, Any]) -> dict[str, float]:
    """Score by name; of a row that `score` has not seen an empty dict, and of pairs too."""
    scores = row.get("scores")
    found = dict(scores) if isinstance(scores, Mapping) else {}
    if "reward_model" not in found and "reward" in row:
        found["reward_model"] = row["reward"]
    return {
        str(name): float(value)
        for name, value in found.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def score_of(row: Mapping[str, Any], name: str | None) -> float:
    """The score `name`; with None the only one there is.

    Raises:
        DataError: it is not there, or there are several to choose from.
    """
    found = scores_of(row)
    if name is None:
        if len(found) == 1:
            return next(iter(found.values()))
        what = f"several scores ({', '.join(found)}); name one with --score" if found else "no score"
        raise DataError(
            f"{what}{'' if found else '; run autoalign-cli score on the file first'}", field="scores"
        )
    if name not in found:
        known = ", ".join(found) or "none"
        raise DataError(f"no score '{name}'{nearest(name, found)}; there are: {known}", field="scores")
    return found[name]
