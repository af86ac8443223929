"""How far two judges agree beyond chance: Cohen's kappa (Cohen 1960), weighted for grades (Cohen 1968)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

LabelT = TypeVar("LabelT", bound=Hashable)


def cohen_kappa(first: Sequence[LabelT], second: Sequence[LabelT]) -> float:
    """1: always the same, 0: as often as by chance. Judges that only ever say one and the same thing agree.

    Raises:
        ValueError: no verdicts, or not as many of each.
    """
    return _kappa(first, second, lambda one, other: float(one != other))


def weighted_kappa(first: Sequence[float], second: Sequence[float]) -> float:
    """Kappa of grades: a disagreement counts with the square of its size.

    Raises:
        ValueError: no grades, or not as many of each.
    """
    return _kappa(first, second, lambda one, other: (one - other) ** 2)


def _kappa(
    first: Sequence[LabelT], second: Sequence[LabelT], distance: Callable[[LabelT, LabelT], float]
) -> float:
    if not first or len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} verdicts; as many of each are expected")
    size = len(first)
    measured = sum(distance(one, other) for one, other in zip(first, second, strict=True)) / size
    left, right = Counter(first), Counter(second)
    chance = sum(
        distance(one, other) * count * against / size**2
        for one, count in left.items()
        for other, against in right.items()
    )
    return 1.0 if chance == 0 else 1 - measured / chance
