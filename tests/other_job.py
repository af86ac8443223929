"""Another job on a test's Ray cluster, which has CPUs until it is told of ours."""

from __future__ import annotations

from typing import Any

import ray
from ray.util.placement_group import placement_group, remove_placement_group


class OtherJob:
    """Holds CPUs from now on, and gives them back at the first line that our job says.

    Attributes:
        told: the lines.
    """

    def __init__(self, cpus: float) -> None:
        self.told: list[str] = []
        self._group: Any = placement_group([{"CPU": cpus}])
        ray.get(self._group.ready())

    def hear(self, line: str) -> None:
        """What our job says."""
        self.told.append(line)
        if len(self.told) == 1:
            remove_placement_group(self._group)
